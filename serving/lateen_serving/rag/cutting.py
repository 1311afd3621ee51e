# SPDX-License-Identifier: Apache-2.0
"""From parsed documents to chunks that the embedder can surely read. Called by `sync.py`."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from lateen_api.rag_index import Chunking
from lateen_serving.rag import chunking
from lateen_serving.rag.chunking import Limits, Piece, Spans
from lateen_serving.rag.parse import Parsed
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
        self._by_headings = wanted.strategy == "Markdown"
        self._readable = max(1, max_tokens - SPECIAL_TOKENS)
        self._limits = Limits.within(wanted.size, wanted.overlap, self._readable)

    async def cut(self, contents: Sequence[Content]) -> list[list[Chunk]]:
        """The chunks of each document, in order."""
        spans = await self._spans([content.parsed.text for content in contents])
        pieces = [self._pieces(content, own) for content, own in zip(contents, spans, strict=True)]
        fitted = iter(await self._fit([piece.embedded for own in pieces for piece in own]))
        return [
            [_chunk(content, position, piece, *next(fitted)) for position, piece in enumerate(own)]
            for content, own in zip(contents, pieces, strict=True)
        ]

    def _pieces(self, content: Content, spans: Spans) -> list[Piece]:
        by_headings = self._by_headings and content.parsed.markdown
        return chunking.cut(content.parsed.text, spans, self._limits, self._readable, by_headings=by_headings)

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


def _chunk(content: Content, position: int, piece: Piece, embedded: str, tokens: int) -> Chunk:
    document = content.document
    identity = f"{document.id}\n{position}\n{content.content_hash}"
    return Chunk(
        id=str(uuid.uuid5(_NAMESPACE, identity)),
        document_id=document.id,
        source=document.source,
        path=document.path,
        title=content.parsed.title,
        heading=piece.heading,
        position=position,
        text=piece.text,
        content_hash=content.content_hash,
        uri=document.uri,
        embedded=embedded,
        tokens=tokens,
    )
