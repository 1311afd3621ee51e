# SPDX-License-Identifier: Apache-2.0
"""What the operator asks of an index build job, and what the job reports.

The request travels as `build.json` in the job's working directory, beside `configmaps/SOURCE/KEY` files with the
content of ConfigMaps: Ray nodes have no access to the Kubernetes API. The report is kept in Weaviate, in the
ledger collection beside the chunks.
"""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api.rag_index import Chunking, Parsing, Pipeline, Source, Store
from lateen_api.schema import SpecType

BUILD_ENTRYPOINT = "python -m lateen_serving.rag.build build.json"
"""Entrypoint of the Ray job, run in its working directory."""

REQUEST_FILE = "build.json"
CONFIGMAP_FOLDER = "configmaps"
MAX_LISTED_FAILURES = 20
"""Failures a report lists; the count says how many there are."""


class BuildRequest(SpecType):
    """One synchronization of one collection with its sources."""

    id: str
    """The index's client id; for logs."""

    collection: str
    """Weaviate collection to fill; created when missing. Its ledger is `names.ledger_collection(collection)`."""

    fingerprint: str
    """Identifies what is to be indexed: the operator compares it with the last report's."""

    sources: list[Source]
    """Where documents come from. ConfigMaps are read from the job's working directory."""

    parsing: Parsing
    """How files become text."""

    pipeline: Pipeline = Pipeline()
    """What is done to documents before they are cut."""

    chunking: Chunking
    """How text becomes passages."""

    store: Store
    """How vectors are kept."""

    embedder_application: str
    """Ray Serve application that embeds."""

    embedder: str
    """Client id of the embedding model, stamped on the collection."""

    embedder_revision: str
    """Its revision, stamped on the collection."""


SourceFailureReason = Literal["SourceUnavailable", "SourceNotFound", "SourceRefused"]
"""Why a whole source could not be read; what it gave before stays indexed."""

ParseFailureReason = Literal[
    "TooLarge", "NotText", "Empty", "Encrypted", "Bomb", "Malformed", "Unsupported", "TooComplex", "Crashed"
]
"""Why a file could not become text, as a stable word.

- `TooLarge`: more bytes, pages or characters than are read.
- `NotText`: binary data of no known kind.
- `Empty`: it has no text.
- `Encrypted`: it asks for a password.
- `Bomb`: it is made to unpack or nest beyond all bounds.
- `Malformed`: it is damaged, or not what its name says; its sidecar file can't be used.
- `Unsupported`: it is of a known kind that is not read, such as a picture or an archive.
- `TooComplex`: reading it takes more time or memory than one document may.
- `Crashed`: reading it killed the process that read it; the others are not affected.
"""

DocumentFailureReason = ParseFailureReason | Literal["Unreadable"] | SourceFailureReason
"""Why a document or a source could not be indexed, as a stable word."""


class DocumentFailure(SpecType):
    """A document (or a whole source) that could not be indexed; the others are."""

    document: str
    """`source/path`, or just the source's name."""

    reason: DocumentFailureReason
    """Why, as a stable word."""

    message: str
    """Why, for people; at most 512 characters."""


class PipelineCounts(SpecType):
    """What the steps before embedding did to the documents that are in the sources now."""

    duplicates: int = 0
    """Documents not indexed because another has exactly the same text."""

    near_duplicates: int = 0
    """Documents not indexed because another is as similar as the spec says."""

    too_short: int = 0
    """Documents not indexed because they have too few letters and digits."""

    redactions: int = 0
    """Personal data replaced in indexed documents."""

    repaired: int = 0
    """Indexed documents of which some bytes could not be read and were replaced by U+FFFD."""


class BuildReport(SpecType):
    """How the last completed synchronization of a collection went."""

    fingerprint: str
    """That of its request."""

    started_at: str
    """RFC 3339, UTC."""

    finished_at: str
    """RFC 3339, UTC."""

    documents: int
    """Documents in the collection now."""

    chunks: int
    """Passages in the collection now."""

    tokens: int
    """Tokens of all passages in the collection, as the embedder counts."""

    embedded: int
    """Passages this synchronization embedded: 0 when nothing had changed."""

    removed: int
    """Documents this synchronization removed."""

    failed: int
    """Documents and sources that could not be indexed."""

    failures: Annotated[list[DocumentFailure], Field(max_length=MAX_LISTED_FAILURES)] = Field(default=[])
    """The first of them."""

    pipeline: PipelineCounts = PipelineCounts()
    """What the steps before embedding did."""

    commits: dict[str, str] = Field(default={})
    """For each git source the commit that was read."""
