# SPDX-License-Identifier: Apache-2.0
"""From parsed documents to chunks that the embedder can surely read. Called by `sync.py`."""

import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from lateen_api.rag_index import Chunking
from lateen_serving.rag import chunking, outline, sentences
from lateen_serving.rag.chunking import Limits, Piece, Spans, Text
from lateen_serving.rag.parsing.parsed import Parsed
from lateen_serving.rag.protocol import Chunk, Document, Embedder

SPECIAL_TOKENS = 2
"""Tokens an embedder puts around a text."""

_SEGMENT = 8_000
"""Characters tokenized in one go; small enough that queries at the same replica don't wait."""

_TEXTS_PER_CALL = 64
_NAMESPACE = uuid.UUID("5bf3b0a5-6a3e-5c0b-9a9e-0c6f0f1d7a11")


@dataclass(frozen=True)
class Content:
    """A document that was read and parsed."""

    document: Document
    content_hash: str
    parsed: Parsed


class Cutter:
    """Cuts documents as the index asks for, in the tokens of its embedder."""

    def __init__(self, embedder: Embedder, wanted: Chunking, max_tokens: int) -> None:
        """`max_tokens` is the embedder's longest input, special tokens included."""
        self._embedder = embedder
        self._strategy = wanted.strategy
        self._readable = max(1, max_tokens - SPECIAL_TOKENS)
        self._limits = Limits.within(wanted.size, wanted.overlap, self._readable)

    async def cut(self, contents: Sequence[Content]) -> list[list[Chunk]]:
        """The chunks of each document, in order."""
        spans = await self._spans([content.parsed.text for content in contents])
        pieces = [self._pieces(content, own) for content, own in zip(contents, spans, strict=True)]
        fitted = iter(await self._fit([piece.embedded for own in pieces for piece in own]))
        return [
            [_chunk(place, position, piece, *next(fitted)) for position, piece in enumerate(own)]
            for place, own in zip(map(_Places, contents), pieces, strict=True)
        ]

    def _pieces(self, content: Content, spans: Spans) -> list[Piece]:
        parsed = content.parsed
        spans = [span for span in spans if span[1] > span[0]]
        begins: list[int] = []
        if self._strategy == "Sentence":
            tokens = [first for first, _ in spans]
            begins = [bisect_left(tokens, start) for start in sentences.starts(parsed.text)]
        body = Text(parsed.text, spans, parsed.fences, begins)
        cuts = outline.sections(parsed.text, parsed.headings) if self._by_headings(parsed) else ()
        return chunking.cut(body, self._limits, self._readable, cuts)

    def _by_headings(self, parsed: Parsed) -> bool:
        """Whether headings end passages; those of source code are its definitions."""
        return self._strategy == "Code" or (self._strategy == "Markdown" and parsed.kind != "Code")

    async def _spans(self, texts: Sequence[str]) -> list[Spans]:
        parts = [
            (at, start, part)
            for at, text in enumerate(texts)
            for start, part in chunking.segments(text, _SEGMENT)
        ]
        tokens = await self._tokenize([part for _, _, part in parts])
        spans: list[list[tuple[int, int]]] = [[] for _ in texts]
        for (at, start, _), own in zip(parts, tokens, strict=True):
            spans[at].extend((start + first, start + last) for first, last in own)
        return list(spans)

    async def _fit(self, texts: Sequence[str]) -> list[tuple[str, int]]:
        """Each text with its number of tokens, shortened where the embedder could not read it.

        A text cut out of another can have more tokens than it had there, so that they are counted again.
        """
        fitted = list(texts)
        counts = [0] * len(fitted)
        pending = list(range(len(fitted)))
        while pending:
            tokens = await self._tokenize([fitted[at] for at in pending])
            for at, own in zip(pending, tokens, strict=True):
                counts[at] = len(own)
                if len(own) > self._readable:
                    fitted[at] = shortened(fitted[at], own, self._readable)
            pending = [at for at in pending if counts[at] > self._readable]
        return list(zip(fitted, counts, strict=True))

    async def _tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        found: list[list[tuple[int, int]]] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            found += await self._embedder.tokenize(texts[start : start + _TEXTS_PER_CALL])
        return found


def shortened(text: str, spans: Spans, readable: int) -> str:
    """`text` cut before its first unreadable token, at a space if one is near; always shorter than `text`."""
    stop = min(spans[readable][0], len(text) - 1)
    space = text.rfind(" ", stop * 3 // 4, stop)
    return text[: space if space > 0 else stop].rstrip()


class _Places:
    """Where the passages of one document are."""

    def __init__(self, content: Content) -> None:
        parsed = content.parsed
        self.content = content
        self._sections = outline.sections(parsed.text, parsed.headings)
        self._starts = [section.start for section in self._sections]
        self._pages = [offset for offset, _ in parsed.pages]

    def heading(self, offset: int) -> str:
        """The headings above the character at `offset`."""
        at = bisect_right(self._starts, offset) - 1
        return self._sections[at].path if at >= 0 else ""

    def page(self, offset: int) -> int | None:
        """The page that the character at `offset` is on."""
        at = bisect_right(self._pages, offset) - 1
        return self.content.parsed.pages[at][1] if at >= 0 else None


def _chunk(places: _Places, position: int, piece: Piece, embedded: str, tokens: int) -> Chunk:
    document, parsed = places.content.document, places.content.parsed
    identity = f"{document.id}\n{position}\n{places.content.content_hash}"
    return Chunk(
        id=str(uuid.uuid5(_NAMESPACE, identity)),
        document_id=document.id,
        source=document.source,
        path=document.path,
        title=parsed.title,
        heading=piece.heading or places.heading(piece.start),
        position=position,
        text=piece.text,
        content_hash=places.content.content_hash,
        uri=document.uri,
        embedded=embedded,
        tokens=tokens,
        page=places.page(piece.start),
        start=piece.start,
        end=piece.end,
        updated_at=parsed.updated_at or document.updated_at,
        language=parsed.language,
        metadata=parsed.metadata,
    )
