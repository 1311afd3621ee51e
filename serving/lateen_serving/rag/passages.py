# SPDX-License-Identifier: Apache-2.0
"""What is searched for and what is found. Values only; used by the gateway and by the modules beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lateen_serving.rag import ids
from lateen_serving.rag.attributes import Filter, Value


@dataclass(frozen=True)
class Options:
    """What a request says of its retrieval; what it leaves out is as the index says."""

    limit: int | None = None
    """Most passages in total."""

    filter: Filter | None = None
    """What the passages' attributes must be."""

    min_score: float | None = None
    """Lowest score, 0 to 1."""

    reranks: bool = True
    """False: without the index's reranker."""


@dataclass(frozen=True)
class Search:
    """A question to one index."""

    query: str
    """In words."""

    vector: Sequence[float] | None
    """Its embedding; None only where the index's mode is `Keyword`."""

    limit: int
    """Most passages."""

    filter: Filter | None = None
    """What the passages' attributes must be."""

    with_vectors: bool = False
    """Whether the passages' vectors are wanted."""


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

    tokens: int = 0
    """Of the text and its headings, as the embedder counts."""

    page: int | None = None
    """Page of the document, from 1; None where it has no pages."""

    start: int | None = None
    """Where the text begins in the document's text, in characters; None where it is not known."""

    end: int | None = None
    """Where it ends."""

    attributes: Mapping[str, Value] = field(default_factory=dict)
    """What filters may name, such as `source`, `language`, `updated_at` and the document's own."""

    vector: Sequence[float] | None = field(default=None, repr=False)
    """What was searched by; None unless it was asked for."""

    @property
    def file_id(self) -> str:
        """What clients call its document."""
        return ids.public(self.document_id)
