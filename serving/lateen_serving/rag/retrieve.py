# SPDX-License-Identifier: Apache-2.0
"""Finds the passages of an index that answer a question. Called by the gateway, once per index and request."""

import asyncio
import json
import math
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from lateen_api.catalog import Index
from lateen_serving import errors
from lateen_serving.rag import listing, schema
from lateen_serving.rag.listing import DocumentPage, IndexedDocument, Wanted
from lateen_serving.rag.passages import Passage, Search
from lateen_serving.rag.protocol import Stamp
from lateen_serving.rag.store import Connection, Row
from lateen_serving.settings import ServingSettings

SEARCH_SECONDS = 5.0
"""Longest time of one search; a restart of Weaviate that is shorter goes unnoticed."""


_STAMPS = 1024
"""Collections whose embedder is remembered."""

T = TypeVar("T")


class Retriever:
    """Searches indexes in Weaviate. One per process; safe to use concurrently from one event loop."""

    def __init__(self, settings: ServingSettings) -> None:
        """Cheap: the connection is made by the first search."""
        self._connection = Connection(settings)
        self._stamps: OrderedDict[str, Stamp] = OrderedDict()

    async def search(self, index: Index, wanted: Search) -> list[Passage]:
        """The passages of `index` that match best, best first.

        Raises errors.InputError when a vector is needed and missing, errors.WrongVectors when the collection holds
        vectors of another embedder than the catalog says, errors.NotFound when the collection is gone,
        errors.Unavailable when Weaviate does not answer; the next call tries again.
        """
        how = index.retrieval
        if how.mode != "Keyword" and wanted.vector is None:
            raise errors.InputError(f"a search of {index.id} needs the question's vector")
        if how.mode == "Keyword" and not wanted.query.strip():
            return []
        return await _within(self._search(index, wanted))

    async def at(self, index: Index, places: Sequence[tuple[str, int]]) -> list[Passage]:
        """The passages of `index` at `places` (document id, position), in no order; missing ones are left out.

        Their scores are 0. Raises as `search` does.
        """
        rows = await _within(self._connection.at(index.collection, places))
        return [_passage(row) for row in rows]

    async def documents(self, index: Index, wanted: Wanted) -> DocumentPage:
        """A page of the documents of `index`; raises as `search` does."""
        return await _within(listing.page(self._connection, index, wanted))

    async def document(self, index: Index, document_id: str) -> IndexedDocument | None:
        """A document of `index`; None if it has none of that id. Raises as `search` does."""
        return await _within(listing.one(self._connection, index, document_id))

    async def aclose(self) -> None:
        """Close the connection, if there is one. A later search opens it again."""
        await self._connection.aclose()

    async def _search(self, index: Index, wanted: Search) -> list[Passage]:
        if index.retrieval.mode != "Keyword" and wanted.vector is not None:
            _check(index, await self._stamp(index.collection), len(wanted.vector))
        rows = await self._connection.search(index.collection, index.retrieval, wanted)
        return [_passage(row) for row in rows]

    async def _stamp(self, collection: str) -> Stamp | None:
        """The embedder of a collection; it never changes, so that it is read once."""
        known = self._stamps.get(collection)
        if known is None:
            known = await self._connection.stamp(collection)
            if known is not None:
                self._stamps[collection] = known
                if len(self._stamps) > _STAMPS:
                    self._stamps.popitem(last=False)
        return known


def _check(index: Index, stamp: Stamp | None, dimension: int) -> None:
    """Raise WrongVectors unless the question's vector can be compared with the collection's."""
    asked = Stamp(index.embedder, index.embedder_revision, dimension)
    if stamp != asked:
        held = f"{stamp.id}@{stamp.revision}, {stamp.dimension} dimensions" if stamp else "no known embedder"
        raise errors.WrongVectors(
            f"The vector store '{index.id}' holds vectors of {held}; the question's is of"
            f" {asked.id}@{asked.revision}, {dimension} dimensions. Its RAGIndex must be built again."
        )


async def _within(work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            return await work
    except TimeoutError as error:
        raise errors.Unavailable(f"the vector store did not answer within {SEARCH_SECONDS:g} s") from error


def _passage(row: Row) -> Passage:
    found: dict[str, Any] = {name: row.properties.get(name) for name in schema.RETURNED}
    found["metadata"] = json.loads(found["metadata"] or "{}")
    return Passage(
        document_id=found["document_id"],
        filename=found["path"],
        text=found["text"],
        score=score(row),
        heading=found["heading"],
        position=int(found["position"]),
        uri=found["uri"],
        tokens=int(found["tokens"]),
        page=_whole(found["page"]),
        start=_whole(found["start"]),
        end=_whole(found["end"]),
        attributes=schema.attributes(found | {"updated_at": _whole(found["updated_at"])}),
        vector=row.vector,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def score(row: Row) -> float:
    """How well a row matches, 0 to 1, higher is better, in the order Weaviate ranks.

    Fused scores and cosine certainties are in that range already; keyword scores (0 to infinity) and the
    distances of other metrics (any number) are squeezed into it.
    """
    if row.certainty is not None:
        value = row.certainty
    elif row.distance is not None:
        value = 1 / (1 + math.exp(min(row.distance, 700.0)))
    else:
        raw = max(row.score or 0.0, 0.0)
        value = raw if row.fused else raw / (1 + raw)
    return min(max(value, 0.0), 1.0)
