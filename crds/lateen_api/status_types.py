# SPDX-License-Identifier: Apache-2.0
"""What the operator reports in `status`: written by its reconcilers, read by people, `lateen status` and kstatus tools.

Lenient on purpose: every field is optional and unknown ones are ignored, so that an operator of another version
can read what this one wrote. Everything here can be rebuilt from the world.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lateen_api.index_build import MAX_LISTED_FAILURES
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


class ModelFacts(StatusType):
    """What a replica said of the model it loaded."""

    parameters: Count | None = None
    """Number of parameters."""

    context_tokens: Count | None = None
    """Longest sequence in tokens."""

    dtype: str | None = None
    """Number format of the weights."""

    memory_bytes: Count | None = None
    """Memory of a replica's process once the weights are loaded."""

    load_seconds: Count | None = None
    """Seconds from the start of the replica's process until it could serve, rounded up."""


class ScalingEvent(StatusType):
    """One change of the number of replicas."""

    time: Timestamp
    """When it was decided."""

    from_: Annotated[Count, Field(alias="from")]
    """Replicas before."""

    to: Count
    """Replicas after."""

    reason: str
    """Why, in the autoscaler's words."""


class TrafficShare(StatusType):
    """A revision and the requests it takes."""

    revision: str
    """The revision."""

    weight: Annotated[int, Field(ge=0, le=100)]
    """Percent of the requests."""


class AdapterStatus(StatusType):
    """A LoRA adapter."""

    name: str
    """As in the spec."""

    model_id: str
    """What clients put in `model=`."""

    ready: bool
    """Whether it answers: every replica has loaded it. Only then `/v1/models` lists it."""

    reason: str | None = None
    """Why not, as a stable word of docs/reasons.md: `Progressing` while it loads."""

    message: str | None = None
    """Why not, for people."""


class LastFailure(StatusType):
    """The last thing that went wrong with a replica."""

    reason: str
    """Why, as a stable word of docs/reasons.md."""

    message: str
    """Why, for people."""

    time: Timestamp
    """When it was seen first."""


class ModelDeploymentStatus(Status):
    """What a ModelDeployment has become."""

    url: str | None = None
    """Base URL of the API through which clients call it, as OpenAI's clients take it (`base_url`); beside it
    `modelId` is all they need. Only the path `/v1` where the operator was not told the gateway's address
    (`LATEEN_OPERATOR_GATEWAY_URL`)."""

    model_id: str | None = None
    """What clients put in `model=`."""

    revision: str | None = None
    """Revision that serves."""

    application: str | None = None
    """Ray Serve application that serves."""

    engine: str | None = None
    """Engine that runs the weights, once `auto` has been decided."""

    replicas: Count | None = None
    """Replicas there should be now: `spec.replicas`, or what the load asks for."""

    ready_replicas: Count | None = None
    """Replicas that serve."""

    starting_replicas: Count | None = None
    """Replicas that load the weights."""

    failed_replicas: Count | None = None
    """Replicas that died lately."""

    engine_reason: str | None = None
    """Why this engine was chosen."""

    facts: ModelFacts | None = None
    """What a replica said of the model."""

    traffic: Annotated[list[TrafficShare] | None, Field(max_length=2)] = None
    """Revisions that take requests, and how many."""

    adapters: Annotated[list[AdapterStatus] | None, Field(max_length=32)] = None
    """The LoRA adapters."""

    scaling_history: Annotated[list[ScalingEvent] | None, Field(max_length=10)] = None
    """The last changes of the number of replicas, newest first."""

    last_failure: LastFailure | None = None
    """What went wrong last; it stays when all is well again."""

    selector: str | None = None
    """Label selector for the scale subresource."""


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

    embedding: EmbeddingStatus | None = None
    """How fast the last synchronization was that embedded at least a tenth of the index."""

    quality: QualityStatus | None = None
    """What the last build found in the live collection; see `spec.quality`."""

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
