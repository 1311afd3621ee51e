# SPDX-License-Identifier: Apache-2.0
"""Finds the passages of an index that answer a question. Called by the gateway, once per index and request."""

from collections.abc import Sequence
from dataclasses import dataclass

from lateen_api.catalog import Index
from lateen_serving.settings import ServingSettings


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
        self._settings = settings

    async def search(
        self, index: Index, query: str, vector: Sequence[float] | None, limit: int
    ) -> list[Passage]:
        """The at most `limit` passages of `index` that match best, best first.

        `vector` is the query's embedding; None only where `index.retrieval.mode` is `Keyword`. Raises
        errors.InputError when it is needed and missing, errors.NotFound when the alias is gone,
        errors.Unavailable when Weaviate does not answer; the next call tries again.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connection, if there is one. A later search opens it again."""
