# SPDX-License-Identifier: Apache-2.0
"""What the operator reports in `status`: written by its reconcilers, read by people, `lateen status` and kstatus tools.

Lenient on purpose: every field is optional and unknown ones are ignored, so that an operator of another version
can read what this one wrote. Everything here can be rebuilt from the world.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lateen_api.index_build import MAX_LISTED_FAILURES
from lateen_api.rag_index import MAX_KEPT_REVISIONS
from lateen_api.schema import named_items

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC."""

Count = Annotated[int, Field(ge=0)]


class StatusType(BaseModel):
    """Base of all status types: camelCase outside, snake_case inside, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def dump(self) -> dict[str, Any]:
        """The value as it is written: camelCase keys, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(StatusType):
    """One aspect of the resource's state, as in `metav1.Condition`."""

    type: Annotated[str, Field(max_length=316)]
    """Which aspect; unique in the list. `Ready` is the one to wait for."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, as a stable CamelCase word; all of them are in docs/reasons.md."""

    message: Annotated[str, Field(max_length=32768)]
    """Why, for people, with the remedy."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """`metadata.generation` this condition speaks about."""

    last_transition_time: Timestamp
    """When `status` last changed."""


class Status(StatusType):
    """What every kind reports."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """`metadata.generation` this status speaks about."""

    conditions: Annotated[
        list[Condition] | None,
        Field(max_length=16, json_schema_extra=named_items("type")),
    ] = None
    """The state, one aspect each; `Ready` first."""


MAX_LISTED_REVISIONS = 20
"""Revisions of a prompt that its status lists."""


class PromptRevisionStatus(StatusType):
    """A revision that is kept, and so can be called by its version."""

    version: str
    """The author's label."""

    revision: str
    """Hash of its content."""

    created: Timestamp
    """When it was made."""

    previous: str | None = None
    """The revision that was live before it; none for the first."""

    state: Literal["Live", "Superseded"]
    """Whether callers who name no version get it."""


class PromptTemplateStatus(Status):
    """What a PromptTemplate has become."""

    prompt_id: str | None = None
    """What clients put in `prompt.id`."""

    revision: str | None = None
    """Revision that is live."""

    version: str | None = None
    """The author's label of the live revision."""

    history: Annotated[list[PromptRevisionStatus] | None, Field(max_length=MAX_LISTED_REVISIONS)] = None
    """The newest revisions that are kept, newest first; `lateen history pt/NAME` shows all."""


class DocumentFailureStatus(StatusType):
    """A document, or a whole source, that could not be indexed."""

    document: str
    """`source/path`, or just the source's name."""

    reason: str
    """Why, as a stable word."""

    message: str
    """Why, for people."""


class SourceStatus(StatusType):
    """How a source came through the last synchronization."""

    name: str
    """Name of the source."""

    documents: Count
    """Documents of it that can be found."""

    changed: Count = 0
    """Documents that were added or replaced."""

    removed: Count = 0
    """Documents that were removed."""

    failed: Count = 0
    """Documents that could not be indexed; 1 when the source as a whole could not be read."""

    left_out: Count = 0
    """Documents beyond a bound of the spec, such as `maxPages`."""

    cursor: str | None = None
    """How far it was read: a commit, the latest time of a change."""

    read_at: Timestamp | None = None
    """When it was last read as a whole."""

    pending_since: Timestamp | None = None
    """Since when the index lacks a change of it, as far as is known."""

    reason: str | None = None
    """Why the source as a whole could not be read, as a stable word."""

    message: str | None = None
    """Why, for people."""


class PipelineStatus(StatusType):
    """What the steps before embedding did to the documents that are in the sources."""

    duplicates: Count | None = None
    """Documents not indexed because another has exactly the same text."""

    near_duplicates: Count | None = None
    """Documents not indexed because another is as similar as `spec.pipeline` says."""

    too_short: Count | None = None
    """Documents not indexed because they have too few letters and digits."""

    redactions: Count | None = None
    """Personal data replaced in indexed documents."""

    repaired: Count | None = None
    """Indexed documents of which some bytes could not be read and were replaced by U+FFFD."""


class QualityStatus(StatusType):
    """What the last build found in the live collection; see `spec.quality`."""

    recall: str | None = None
    """Share of the nearest passages that searches find, such as `0.9870`; measured before queries went to the collection."""

    samples: Count | None = None
    """Passages whose neighbours were searched for that."""

    k: Count | None = None
    """Neighbours of each."""

    objects: Count | None = None
    """Passages in the collection."""

    dimension: Count | None = None
    """Length of their vectors."""


class IndexRevisionStatus(StatusType):
    """A revision whose collection is there: the live one, or one that can be gone back to at once."""

    revision: str
    """Hash of what alters vectors or passages."""

    collection: str
    """Its Weaviate collection."""

    created_at: Timestamp
    """When queries first went to it."""

    documents: Count | None = None
    """Documents that were indexed when it was last synchronized."""

    live: bool
    """Whether queries go to it."""


class EmbeddingStatus(StatusType):
    """How fast an index was filled: what `lateen plan` reckons with."""

    embedder: str | None = None
    """The embedder, by its `modelId`."""

    passages: Count | None = None
    """Passages that were embedded."""

    tokens: Count | None = None
    """Their tokens, as the embedder counts."""

    seconds: Count | None = None
    """Seconds that the whole synchronization took, reading and storing included, rounded up."""


class RAGIndexStatus(Status):
    """What a RAGIndex has become."""

    vector_store_id: str | None = None
    """What clients put in `vector_store_ids`."""

    revision: str | None = None
    """Revision that is live."""

    collection: str | None = None
    """Weaviate collection that is live."""

    building: str | None = None
    """Revision that is being built beside the live one, if any."""

    revisions: Annotated[
        list[IndexRevisionStatus] | None,
        Field(max_length=MAX_KEPT_REVISIONS + 1, json_schema_extra=named_items("revision")),
    ] = None
    """The live revision and the earlier ones that are kept, newest first; see `spec.revisionHistoryLimit`."""

    documents: Count | None = None
    """Documents that can be found."""

    chunks: Count | None = None
    """Passages that can be found."""

    tokens: Count | None = None
    """Tokens of all passages, as the embedder counts."""

    failed: Count | None = None
    """Documents and sources that the last synchronization could not index."""

    failures: Annotated[
        list[DocumentFailureStatus] | None,
        Field(max_length=MAX_LISTED_FAILURES),
    ] = None
    """The first of them."""

    sources: Annotated[list[SourceStatus] | None, Field(max_length=32, json_schema_extra=named_items())] = (
        None
    )
    """Each source, as of the last synchronization."""

    oldest_unindexed_change: Timestamp | None = None
    """Since when some source has a change that can't be found, as far as is known; absent when there is none. The metric
    `lateen_operator_index_lag_seconds` counts from it."""

    pipeline: PipelineStatus | None = None
    """What the steps before embedding did; see `spec.pipeline`."""

    quality: QualityStatus | None = None
    """What the last build found in the live collection; see `spec.quality`."""

    embedding: EmbeddingStatus | None = None
    """How fast the last synchronization was that embedded at least a tenth of the index."""

    fingerprint: str | None = None
    """Identifies what the last synchronization indexed; it differs while something newer waits."""

    last_sync_time: Timestamp | None = None
    """When the last synchronization ended."""

    last_handled_sync: str | None = None
    """Value of the annotation `lateen.dev/sync` that the last synchronization answered."""

    next_sync_time: Timestamp | None = None
    """When the schedule is due next."""

    lag: str | None = None
    """Freshness, such as `12s`: from the moment the last synchronization was due until its documents could be found.
    It changes only with a synchronization."""
