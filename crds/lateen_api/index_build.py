# SPDX-License-Identifier: Apache-2.0
"""What the operator asks of an index build job, and what the job reports.

The request travels as `build.json` in the job's working directory, beside `configmaps/SOURCE/KEY` files with the
content of ConfigMaps: Ray nodes have no access to the Kubernetes API. The report is kept in Weaviate, in the
ledger collection beside the chunks.
"""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api.rag_index import Chunking, Parsing, Pipeline, Quality, Store, Sync
from lateen_api.rag_sources import Source
from lateen_api.schema import SpecType

BUILD_ENTRYPOINT = "python -m lateen_serving.rag.build build.json"
"""Entrypoint of the Ray job, run in its working directory."""

REQUEST_FILE = "build.json"
CONFIGMAP_FOLDER = "configmaps"
MAX_LISTED_FAILURES = 20
"""Failures a report lists; the count says how many there are."""


class Recall(SpecType):
    """How many of the nearest passages the searches of a collection find."""

    value: float
    """Share of those that an exact search finds, 0 to 1."""

    samples: int
    """Passages whose neighbours were searched; 0: there were too few to search, and `value` is 1."""

    asked: int
    """Samples that were asked for; a small collection has fewer."""

    k: int
    """Neighbours of each; fewer where there are fewer passages."""


class BuildRequest(SpecType):
    """One synchronization of one collection with its sources."""

    id: str
    """The index's client id; for logs."""

    namespace: str
    """The index's: its Secrets are the files `NAMESPACE/NAME/KEY` of the Ray nodes' folder for secrets."""

    collection: str
    """Weaviate collection to fill; created when missing. Its ledger is `names.ledger_collection(collection)`."""

    fingerprint: str
    """Identifies what is to be indexed: the operator compares it with the last report's."""

    sources: list[Source]
    """Where documents come from. ConfigMaps are read from the job's working directory."""

    sync: Sync = Sync()
    """What happens to documents that are gone."""

    parsing: Parsing
    """How files become text."""

    pipeline: Pipeline = Pipeline()
    """What is done to documents before they are cut."""

    chunking: Chunking
    """How text becomes passages."""

    store: Store
    """How vectors are kept."""

    quality: Quality = Quality()
    """How recall is measured."""

    live: bool = False
    """Whether queries go to the collection already: then a recall that was measured is not measured again."""

    measured: Recall | None = None
    """The collection's recall as an earlier build measured it."""

    asked: str = ""
    """Value of the annotation `lateen.dev/sync`."""

    pushed: str | None = None
    """Weaviate collection that says what clients have sent, created when missing; None without a source `push`."""

    embedder_application: str
    """Ray Serve application that embeds."""

    embedder: str
    """Client id of the embedding model, stamped on the collection."""

    embedder_revision: str
    """Its revision, stamped on the collection."""


SourceFailureReason = Literal["SourceUnavailable", "SourceNotFound", "SourceRefused", "SourceUnauthorized"]
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

DocumentFailureReason = (
    ParseFailureReason | Literal["Unreadable", "NotFound", "Refused"] | SourceFailureReason
)
"""Why a document or a source could not be indexed, as a stable word."""


class DocumentFailure(SpecType):
    """A document (or a whole source) that could not be indexed; the others are."""

    document: str
    """`source/path`, or just the source's name."""

    reason: DocumentFailureReason
    """Why, as a stable word."""

    message: str
    """Why, for people; at most 512 characters."""


class SourceReport(SpecType):
    """How one source came through a synchronization."""

    name: str
    """Name of the source."""

    documents: int
    """Documents of it in the index now."""

    changed: int = 0
    """Documents this synchronization added or replaced."""

    removed: int = 0
    """Documents this synchronization removed."""

    failed: int = 0
    """Documents of it that could not be indexed; 1 when the source as a whole could not be read."""

    left_out: int = 0
    """Documents beyond a bound of the spec, such as `maxPages`."""

    cursor: str | None = None
    """How far it was read: a commit, the latest time of a change; at most 128 characters."""

    read_at: str | None = None
    """When it was last read as a whole, RFC 3339, UTC."""

    pending_since: str | None = None
    """Since when the index lacks a change of it, as far as is known, RFC 3339, UTC; absent: it lacks none."""


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


class QualityReport(SpecType):
    """What a build found when it looked at the whole collection at its end."""

    objects: int
    """Passages in the collection; where recall was measured only those with a vector of the right length."""

    dimension: int | None = None
    """Length of the vectors; None when there are none."""

    expected: int
    """Length of the embedder's vectors."""

    recall: Recall | None = None
    """As measured by this build or by an earlier one; None when none has measured it."""


class BuildReport(SpecType):
    """How the last completed synchronization of a collection went."""

    fingerprint: str
    """That of its request."""

    asked: str = ""
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

    embedded_tokens: int = 0
    """Tokens of those passages, as the embedder counts."""

    removed: int
    """Documents this synchronization removed."""

    failed: int
    """Documents and sources that could not be indexed."""

    failures: Annotated[list[DocumentFailure], Field(max_length=MAX_LISTED_FAILURES)] = Field(default=[])
    """The first of them."""

    pipeline: PipelineCounts = PipelineCounts()
    """What the steps before embedding did."""

    quality: QualityReport | None = None
    """What it found in the collection at its end; None in reports of earlier versions."""

    commits: dict[str, str] = Field(default={})
    """For each git source the commit that was read."""

    sources: list[SourceReport] = Field(default=[])
    """Each source, in the spec's order."""
