# SPDX-License-Identifier: Apache-2.0
"""Indexes in memory, in place of Weaviate, for the gateway of `gateway_fakes.py`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lateen_api.catalog import Index
from lateen_serving.rag.listing import DocumentPage, IndexedDocument, Told, Wanted, span
from lateen_serving.rag.passages import Passage, Search


@dataclass
class FakeSearch:
    """Indexes: `passages` by index id."""

    passages: dict[str, list[Passage]] = field(default_factory=dict)
    error: Exception | None = None
    calls: list[tuple[str, str, list[float] | None, int]] = field(default_factory=list)
    wanted: list[Search] = field(default_factory=list)
    held: dict[str, list[IndexedDocument]] = field(default_factory=dict)
    """The documents of an index, by its id."""
    around: list[Passage] = field(default_factory=list)
    """Passages that no search finds, but whoever knows their place."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    silent: asyncio.Event | None = None
    """When set, every question waits for it."""
    closed: list[str] = field(default_factory=list)
    """Ids of the indexes, one for each question that is over."""

    @asynccontextmanager
    async def _work(self, index: Index) -> AsyncGenerator[None, None]:
        """Around a question."""
        self.asked.set()
        try:
            if self.silent is not None:
                await self.silent.wait()
            if self.error is not None:
                raise self.error
            yield
        finally:
            self.closed.append(index.id)

    async def search(self, index: Index, wanted: Search) -> list[Passage]:
        vector = list(wanted.vector) if wanted.vector is not None else None
        self.calls.append((index.id, wanted.query, vector, wanted.limit))
        self.wanted.append(wanted)
        async with self._work(index):
            return self.passages.get(index.id, [])[: wanted.limit]

    async def documents(self, index: Index, wanted: Wanted) -> DocumentPage:
        """Of what is held; `wanted.before` as `listing.page` has it."""
        async with self._work(index):
            descending = wanted.descending != (wanted.before is not None)
            place, told = wanted.before or wanted.after, Told()
            rows = span(self.held.get(index.id, []), told, place, None, descending=descending)
            found = [row for row in rows if wanted.status in (None, row.status)]
            page = found[: wanted.limit]
            return DocumentPage(page[::-1] if wanted.before else page, len(found) > wanted.limit)

    async def document(self, index: Index, document_id: str) -> IndexedDocument | None:
        async with self._work(index):
            return next((one for one in self.held.get(index.id, []) if one.id == document_id), None)

    async def at(self, index: Index, places: Sequence[tuple[str, int]]) -> list[Passage]:
        return [one for one in self.around if (one.document_id, one.position) in places]
