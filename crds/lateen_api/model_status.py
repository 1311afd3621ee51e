# SPDX-License-Identifier: Apache-2.0
"""What the operator reports in the `status` of a ModelDeployment; see `status_types.py`."""

from typing import Annotated

from pydantic import Field

from lateen_api.status_types import Count, Status, StatusType, Timestamp


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
