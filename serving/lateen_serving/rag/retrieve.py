# SPDX-License-Identifier: Apache-2.0
"""Finds the passages of an index that answer a question. Called by the gateway, once per index and request."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lateen_api.catalog import Index
from lateen_serving import errors
from lateen_serving.rag.store import Connection, Row
from lateen_serving.settings import ServingSettings

SEARCH_SECONDS = 5.0
"""Longest time of one search; a restart of Weaviate that is shorter goes unnoticed."""


@dataclass(frozen=True)
class Passage:
    """A passage of a document, as a search found it."""

    document_id: str
    """Id of its document: `source/path`."""

    filename: str
    """The document's path within its source."""

    text: str
    """The passage, as it was embedded but without its heading path."""

    score: float
    """How well it matches, 0 to 1, higher is better. Comparable within one search only."""

    heading: str
    """Headings above it, `A > B`; empty for plain text."""

    position: int
    """Which passage of the document it is, from 0."""

    uri: str
    """Where the document came from; for people."""


class Retriever:
    """Searches indexes in Weaviate. One per process; safe to use concurrently from one event loop."""

    def __init__(self, settings: ServingSettings) -> None:
        """Cheap: the connection is made by the first search."""
        self._connection = Connection(settings)

    async def search(
        self, index: Index, query: str, vector: Sequence[float] | None, limit: int
    ) -> list[Passage]:
        """The at most `limit` passages of `index` that match best, best first.

        `vector` is the query's embedding; None only where `index.retrieval.mode` is `Keyword`. Raises
        errors.InputError when it is needed and missing, errors.NotFound when the alias is gone,
        errors.Unavailable when Weaviate does not answer; the next call tries again.
        """
        how = index.retrieval
        if how.mode != "Keyword" and vector is None:
            raise errors.InputError(f"a search of {index.id} needs the question's vector")
        if how.mode == "Keyword" and not query.strip():
            return []
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                rows = await self._connection.search(
                    index.collection,
                    mode=how.mode,
                    query=query,
                    vector=vector,
                    alpha=float(how.alpha),
                    limit=limit,
                )
        except TimeoutError as error:
            raise errors.Unavailable(
                f"the vector store did not answer within {SEARCH_SECONDS:g} s"
            ) from error
        return [_passage(row) for row in rows]

    async def aclose(self) -> None:
        """Close the connection, if there is one. A later search opens it again."""
        await self._connection.aclose()


def _passage(row: Row) -> Passage:
    found = row.properties
    return Passage(
        document_id=found["document_id"],
        filename=found["path"],
        text=found["text"],
        score=score(row),
        heading=found["heading"],
        position=int(found["position"]),
        uri=found["uri"],
    )


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
