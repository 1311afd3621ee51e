# SPDX-License-Identifier: Apache-2.0
"""The seams of an index build and the values that cross them. Used by every module beside it.

`Store` is implemented by `store.py` (Weaviate), `Embedder` by `embedder.py` (a Ray Serve handle); unit tests
implement both in memory.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lateen_api.index_build import BuildReport, DocumentFailure, SourceFailureReason
from lateen_serving.engine.protocol import Description, Embeddings
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.parsing.parsed import Outcome, Raw

PENDING = ""
"""Content hash of a ledger entry whose chunks are being changed: after a crash they are in an unknown state."""

FailureReason = Literal["StoreUnavailable", "StoreUnsupported", "ReferenceNotReady", "BuildFailed"]


class BuildFailure(Exception):
    """The synchronization as a whole can't go on.

    Attributes:
        reason: A reason of `lateen_api.conditions.Reason`.

    """

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Document:
    """A file of a source, not read yet. All of a build's are in memory."""

    id: str
    """`source/path`."""

    source: str
    path: str
    """Path within the source, with `/`."""

    uri: str
    """Where it came from; for people."""

    size: int
    """Bytes."""

    read: Callable[[], Awaitable[bytes]] = field(compare=False, repr=False)
    """Its content; raises OSError when it can't be read (any more)."""

    version: str = ""
    """What its source says and changes whenever the content does (an entity tag, a blob, a time); empty: nothing."""

    unchanged: bool = False
    """Whether what is indexed of it is still right, as its source says: then it need not be readable."""

    updated_at: str = ""
    """When its content changed last, as its source tells; RFC 3339, UTC; empty: not known."""

    sidecar: "Document | None" = None
    """The file `PATH.metadata.json` beside it, with what its author says about it."""


@dataclass(frozen=True)
class Loaded:
    """What one source holds now."""

    documents: Sequence[Document] = ()
    failures: Sequence[DocumentFailure] = ()
    """Files of the source that can't be taken."""

    commit: str | None = None
    """The commit that was read, for a git source."""

    unchanged: bool = False
    """Whether the source is as the cursor says: then `documents` is empty, and all that is indexed of it stays."""

    incomplete: bool = False
    """Whether documents may be missing from `documents` although they are there; then nothing is taken for removed."""

    position: str = ""
    """How far the source was read, for people: a commit, a time; empty: it has no such thing."""

    state: Mapping[str, Any] = field(default_factory=dict)
    """What the source wants to know next time, as JSON."""

    left_out: int = 0
    """Documents beyond a bound of the spec."""


@dataclass(frozen=True)
class Cursor:
    """What a source may know of the last synchronization; empty at the first, and after its settings have changed."""

    state: Mapping[str, Any] = field(default_factory=dict)
    """What it asked to be kept."""

    marks: Mapping[str, str] = field(default_factory=dict)
    """By document id, of those whose content is indexed as it was then: `mark` of uri and version."""

    whole: bool = False
    """Whether all that the source had then is indexed, and nothing else of it."""

    def knows(self, document_id: str, uri: str, version: str) -> bool:
        """Whether the content of this version of a document is indexed."""
        return bool(version) and self.marks.get(document_id) == mark(uri, version)


def source_of(document_id: str) -> str:
    """Name of the source that a document comes from."""
    return document_id.split("/", 1)[0]


def mark(uri: str, version: str) -> str:
    """Stands for a version of a document at a place."""
    return hashlib.sha256(f"{uri}\n{version}".encode()).hexdigest()[:16]


class Cursors(Protocol):
    """Keeps one text beside a collection's ledger. Implemented by `cursor_store.py`; in memory by unit tests."""

    async def read(self) -> str:
        """The text; empty before the first."""
        ...

    async def write(self, text: str) -> None:
        """Replace the text."""
        ...


class SourceFailure(Exception):
    """A source as a whole can't be read; what is indexed of it stays.

    Attributes:
        reason: A reason of `DocumentFailure`.

    """

    def __init__(self, reason: SourceFailureReason | Literal["TooLarge"], message: str) -> None:
        super().__init__(message)
        self.reason: SourceFailureReason | Literal["TooLarge"] = reason


Fate = Literal["Indexed", "Duplicate", "NearDuplicate", "TooShort"]
"""What became of a document that could be read; all but the first have no chunks."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a document's reading has shown, and what later runs compare with."""

    fate: Fate = "Indexed"
    original: str = ""
    """The document that a duplicate repeats."""

    digest: str = ""
    """Hash of its text."""

    signature: str = ""
    """What near duplicates are known by, in base 64."""

    redactions: int = 0
    """Personal data replaced in its text."""

    repaired: bool = False
    """Whether bytes of it could not be read."""

    def brief(self) -> "Facts":
        """Without what documents are compared by, which most of the memory would go to."""
        found = replace(self, digest="", signature="")
        return PLAIN if found == PLAIN else found


PLAIN = Facts()
"""Of most documents."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows about one document."""

    document_id: str
    content_hash: str
    """Of the indexed content, or `PENDING`."""

    chunks: int = 0
    tokens: int = 0
    """Tokens of its chunks as the embedder counts; text shared by two chunks counts twice."""

    facts: Facts = PLAIN
    """What its reading has shown."""

    @property
    def source(self) -> str:
        """Name of the document's source."""
        return source_of(self.document_id)

    def brief(self) -> "Entry":
        """With brief facts."""
        return replace(self, facts=self.facts.brief())


@dataclass(frozen=True)
class Stamp:
    """The embedder whose vectors a collection holds."""

    id: str
    revision: str
    dimension: int


@dataclass(frozen=True)
class Chunk:
    """A passage, ready to be embedded and stored."""

    id: str
    """A UUID that depends on document, content and position only: written twice, it is there once."""

    document_id: str
    source: str
    path: str
    title: str
    heading: str
    """Headings above it, `A > B`."""

    position: int
    text: str
    content_hash: str
    """Of the document it was cut from."""

    uri: str
    embedded: str
    """What the vector stands for: the heading path and the text."""

    tokens: int
    """Of `embedded`."""

    page: int | None = None
    """Page, slide or sheet it begins on, from 1; None for kinds of files without pages."""

    start: int = 0
    """Offset of its first character in the document's text."""

    end: int = 0
    """Offset after its last character; 0: the offsets are not known."""

    updated_at: str = ""
    """When the document changed last; RFC 3339, empty if unknown."""

    language: str = ""
    """ISO 639-1 code of the document's language; empty if not clear."""

    metadata: Mapping[str, Value] = field(default_factory=dict)
    """What the document's author says about it, by key; at most 32 keys, text of at most 512 characters."""


class Store(Protocol):
    """Keeps one collection's chunks and its ledger.

    Every method may be repeated and retries what may heal by itself; BuildFailure(StoreUnavailable) after that.
    """

    async def ensure(self) -> None:
        """Create what is missing."""
        ...

    async def stamp(self) -> Stamp | None:
        """The embedder of the vectors that are there."""
        ...

    async def put_stamp(self, stamp: Stamp) -> None:
        """Record the embedder."""
        ...

    async def entries(self) -> dict[str, Entry]:
        """The ledger, by document id."""
        ...

    async def put_entries(self, entries: Sequence[Entry]) -> None:
        """Write entries, replacing those of the same documents."""
        ...

    async def drop_entries(self, document_ids: Sequence[str]) -> None:
        """Remove entries; missing ones are fine."""
        ...

    async def put_chunks(self, chunks: Sequence[Chunk], vectors: npt.NDArray[np.float32]) -> None:
        """Write chunks; all of them are there when it returns."""
        ...

    async def drop_chunks(self, document_ids: Sequence[str]) -> None:
        """Remove all chunks of documents."""
        ...

    async def drop_stale(self, document_id: str, content_hash: str) -> None:
        """Remove the chunks of a document that were cut from other content."""
        ...

    async def settle(self) -> None:
        """Wait until searches know every vector that was written."""
        ...

    async def count(self) -> int:
        """Number of chunks."""
        ...

    async def count_by_document(self) -> Mapping[str, int]:
        """Number of chunks of each document, by looking at every chunk."""
        ...

    async def put_report(self, report: BuildReport) -> None:
        """Write the report for the operator."""
        ...


class Embedder(Protocol):
    """Turns text into vectors and counts tokens.

    Every method retries what may heal by itself; BuildFailure(ReferenceNotReady) after that.
    """

    async def describe(self) -> Description:
        """Facts about the model."""
        ...

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of each token, without special tokens."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of texts."""
        ...


class Parser(Protocol):
    """Turns files into documents."""

    async def parse(self, files: Sequence[Raw]) -> list[Outcome]:
        """What became of each of `files`, in order."""
        ...
