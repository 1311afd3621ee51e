# SPDX-License-Identifier: Apache-2.0
"""Condition types and reasons: part of the API, so each is documented and none is renamed lightly."""

from enum import StrEnum


class ConditionType(StrEnum):
    """Types of `status.conditions`."""

    READY = "Ready"
    """True: it does what its spec says, for clients, now. False: it does not; `reason` says why. Unknown: not seen yet."""

    RECONCILING = "Reconciling"
    """Present and True while work towards the spec is under way (kstatus)."""

    STALLED = "Stalled"
    """Present and True when only a change (of the spec or of the world) can help (kstatus). It heals by itself
    when the world changes; retries go on with backoff."""

    PROGRESSING = "Progressing"
    """ModelDeployment only. True while a new revision is on its way to all requests; the message says how far it is."""

    SCALED = "Scaled"
    """ModelDeployment only. Present and False while some replicas serve and further ones find no node that has room for
    them; the message says what they ask for. Requests go to those that serve."""

    SYNCED = "Synced"
    """RAGIndex only. True: the last synchronization indexed every document. False: some failed, see `status.failures`."""

    COMPATIBLE = "Compatible"
    """PromptTemplate only. Present and False while the live version does not fit one of its `targets` (any more); without
    `targets` while every ready model of the namespace that generates reads fewer tokens than its `contextWindow` promises.
    The message has the numbers. The prompt stays in use."""


class Reason(StrEnum):
    """Reasons of conditions and Events."""

    READY = "Ready"
    """Everything the spec asks for is in place."""

    PROGRESSING = "Progressing"
    """Work is under way: an application starts, a catalog is on its way to the gateway."""

    SUSPENDED = "Suspended"
    """`spec.suspend` is true: nothing is changed."""

    INVALID_SPEC = "InvalidSpec"
    """The spec passed the API server but can't be read by this operator; the message names the field."""

    NO_REPLICAS = "NoReplicas"
    """`spec.replicas` is 0: nothing is served."""

    SCALED_TO_ZERO = "ScaledToZero"
    """Ready: the model is idle and has no replica; the next request waits until one has started."""

    WARMING_UP = "WarmingUp"
    """Ready: a request has woken a model that was scaled to zero; its first replica is starting."""

    ROLLOUT_ABORTED = "RolloutAborted"
    """The new revision did worse than `spec.rollout.abort` allows; the old one serves everything again."""

    ADAPTER_FAILED = "AdapterFailed"
    """Some LoRA adapters can't be loaded; the model and the other adapters serve."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    """The weights or documents are not where the spec says. Of a RAGIndex, as with the next three: the message names the
    source, and what is indexed of it stays until it can be read again."""

    SOURCE_UNAVAILABLE = "SourceUnavailable"
    """The hub, repository, web site, bucket, database or volume can't be reached now."""

    SOURCE_UNAUTHORIZED = "SourceUnauthorized"
    """The source asks for credentials, or refuses those of `secretRef`."""

    DIGEST_MISMATCH = "DigestMismatch"
    """The weights are not those whose `digest` the spec names."""

    CACHE_FULL = "CacheFull"
    """No node has enough disk left to keep the weights; the message says how much is needed and where."""

    SOURCE_REFUSED = "SourceRefused"
    """The source exists but must not be used: pickled weights, a path outside the allowed roots, a private address, a
    query that is no SELECT."""

    MODEL_UNSUPPORTED = "ModelUnsupported"
    """The weights don't fit the task or the engine."""

    REPLICA_FAILED = "ReplicaFailed"
    """Replicas fail to start; the message carries the error."""

    UNSCHEDULABLE = "Unschedulable"
    """No node has the resources a replica asks for, or none has them free; the message says which."""

    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    """A resource, ConfigMap, Secret or volume the spec refers to does not exist."""

    REFERENCE_NOT_READY = "ReferenceNotReady"
    """A resource the spec refers to exists but is not Ready."""

    INCOMPATIBLE = "Incompatible"
    """A resource the spec refers to can't be used here, for example an embedder with `task: generate`; or a prompt at its
    full length, with passages and answer, is more than a model of `spec.targets` (without `targets`: than any) reads."""

    INVALID_TEMPLATE = "InvalidTemplate"
    """Placeholders and declared variables disagree, or a placeholder is malformed; the message has the position."""

    INCLUDE_CYCLE = "IncludeCycle"
    """Templates include each other in a circle; the message names it."""

    VERSION_IMMUTABLE = "VersionImmutable"
    """The template's version was live with other content; the message says which revision has it. Give the new content
    a new version, or set `spec.allowVersionReuse`. It holds as long as that revision is kept."""

    TOO_LARGE = "TooLarge"
    """The template is too large to be kept as a revision, with what it includes in its place; the message has the sizes."""

    BUILDING = "Building"
    """The index's first build, or a new revision beside the live one, is under way."""

    BUILD_FAILED = "BuildFailed"
    """The build job failed; it is retried with backoff."""

    QUALITY_CHECK_FAILED = "QualityCheckFailed"
    """A new collection is complete but not what `spec.quality` asks for, so that queries don't go to it; or the live one is
    not (any more). The message has the figures and what helps."""

    DOCUMENTS_FAILED = "DocumentsFailed"
    """Some documents could not be indexed; the others are."""

    SYNCED = "Synced"
    """All documents are indexed."""

    RAY_UNAVAILABLE = "RayUnavailable"
    """The Ray cluster does not answer."""

    STORE_UNAVAILABLE = "StoreUnavailable"
    """Weaviate does not answer."""

    STORE_UNSUPPORTED = "StoreUnsupported"
    """Weaviate, as it is set up, can't keep a collection as `spec.store` asks: `vectorIndex: dynamic` needs ASYNC_INDEXING,
    `replicas` as many nodes. The message has its words."""

    INTERNAL_ERROR = "InternalError"
    """The operator fails at this resource by a mistake of its own; its log has the details. What is deployed stays, other
    resources are not touched by it."""

    GATEWAY_UNAVAILABLE = "GatewayUnavailable"
    """The gateway does not serve the catalog that contains this resource."""

    IN_USE = "InUse"
    """Deletion waits: others refer to this resource; the message says who."""

    CANARY_STEP = "CanaryStep"
    """Event: a new revision takes more of the requests."""

    ROLLED_BACK = "RolledBack"
    """Event: a new revision was given up."""

    SCALED = "Scaled"
    """Event: the number of replicas follows the load."""

    ROLLED_OUT = "RolledOut"
    """Event: a new revision serves."""

    BUILD_STARTED = "BuildStarted"
    """Event: a synchronization started."""

    ALIAS_SWITCHED = "AliasSwitched"
    """Event: queries go to a new collection."""

    DRIFT_REPAIRED = "DriftRepaired"
    """Event: something outside differed from the spec and was put right."""

    RETAINED = "Retained"
    """Event: a RAGIndex is gone and its collections are still in Weaviate, as `spec.deletionPolicy` says; the message names
    them."""

    DELETED = "Deleted"
    """Event: what existed outside the cluster has been removed."""
