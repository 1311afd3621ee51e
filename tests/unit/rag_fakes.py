# SPDX-License-Identifier: Apache-2.0
"""In-memory doubles of the seams of an index build (`lateen_serving.rag.protocol`)."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lateen_api.index_build import BuildReport
from lateen_api.rag_index import Pipeline
from lateen_serving.engine.protocol import Description, Embeddings
from lateen_serving.rag.parsing.parsed import Outcome, ParseFailure, Raw, Refused
from lateen_serving.rag.parsing.preparing import Preparation
from lateen_serving.rag.protocol import Chunk, Entry, Stamp


class Crash(BaseException):
    """Stands for SIGKILL: no handler of the code under test may soften it."""


class MemoryStore:
    """A store whose every write may be the last one before a crash."""

    def __init__(self) -> None:
        self.chunks: dict[str, Chunk] = {}
        self.ledger: dict[str, Entry] = {}
        self.report: BuildReport | None = None
        self.known: Stamp | None = None
        self.writes = 0
        self.crash_at: int | None = None

    def _write(self) -> None:
        self.writes += 1
        if self.crash_at is not None and self.writes > self.crash_at:
            raise Crash

    async def ensure(self) -> None:
        """Nothing is ever missing."""

    async def stamp(self) -> Stamp | None:
        return self.known

    async def put_stamp(self, stamp: Stamp) -> None:
        self._write()
        self.known = stamp

    async def entries(self) -> dict[str, Entry]:
        return dict(self.ledger)

    async def put_entries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._write()
            self.ledger[entry.document_id] = entry

    async def drop_entries(self, document_ids: Sequence[str]) -> None:
        for document_id in document_ids:
            self._write()
            self.ledger.pop(document_id, None)

    async def put_chunks(self, chunks: Sequence[Chunk], vectors: npt.NDArray[np.float32]) -> None:
        assert len(chunks) == len(vectors)
        for chunk in chunks:
            self._write()
            self.chunks[chunk.id] = chunk

    async def drop_chunks(self, document_ids: Sequence[str]) -> None:
        self._drop(lambda chunk: chunk.document_id in document_ids)

    async def drop_stale(self, document_id: str, content_hash: str) -> None:
        self._drop(lambda chunk: chunk.document_id == document_id and chunk.content_hash != content_hash)

    def _drop(self, goes: Callable[[Chunk], bool]) -> None:
        for key in [key for key, chunk in self.chunks.items() if goes(chunk)]:
            self._write()
            del self.chunks[key]

    async def settle(self) -> None:
        """Every chunk is known at once."""

    async def count(self) -> int:
        return len(self.chunks)

    async def count_by_document(self) -> Mapping[str, int]:
        return Counter(chunk.document_id for chunk in self.chunks.values())

    async def put_report(self, report: BuildReport) -> None:
        self._write()
        self.report = report

    def texts(self) -> dict[str, list[str]]:
        """Passages by document, in order."""
        found: dict[str, list[str]] = {}
        for chunk in sorted(self.chunks.values(), key=lambda chunk: (chunk.document_id, chunk.position)):
            found.setdefault(chunk.document_id, []).append(chunk.text)
        return found


class MemoryCursors:
    """Keeps the text."""

    def __init__(self) -> None:
        self.text = ""

    async def read(self) -> str:
        return self.text

    async def write(self, text: str) -> None:
        self.text = text


class WordEmbedder:
    """Tokens are words of at most four letters; vectors depend on the text alone."""

    def __init__(self, max_tokens: int = 34, dimension: int = 4) -> None:
        self.max_tokens = max_tokens
        self.dimension = dimension
        self.embedded: list[str] = []

    async def describe(self) -> Description:
        return {
            "max_tokens": self.max_tokens,
            "dimension": self.dimension,
            "dtype": "float32",
            "parameters": 0,
            "engine": "transformers",
        }

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[match.span() for match in re.finditer(r"\S{1,4}", text)] for text in texts]

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        counts = [len(spans) for spans in await self.tokenize(texts)]
        assert max(counts) + 2 <= self.max_tokens, "the embedder was given more than it can read"
        self.embedded += texts
        digests = [hashlib.sha256(text.encode()).digest()[: self.dimension] for text in texts]
        vectors = np.array([list(digest) for digest in digests], dtype=np.float32)
        return {"vectors": vectors, "tokens": counts}


class DirectParser:
    """Parses in this process, without bounds."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._prepare = Preparation(pipeline)

    async def parse(self, files: Sequence[Raw]) -> list[Outcome]:
        return [self._outcome(raw) for raw in files]

    def _outcome(self, raw: Raw) -> Outcome:
        try:
            return self._prepare(raw)
        except ParseFailure as failure:
            return Refused(failure.reason, str(failure))
