# SPDX-License-Identifier: Apache-2.0
"""What the operator writes into the declarative Ray Serve config: arguments of the two application builders.

Import paths are strings here, so that the sides meet without importing each other; a contract test resolves them.
"""

from typing import Literal

from pydantic import Field

from lateen_api import names
from lateen_api.model_deployment import Task
from lateen_api.schema import SpecType

GATEWAY_IMPORT_PATH = "lateen_serving.gateway.app:build"
"""`build(args: dict) -> Application`; takes the Catalog as `user_config={"catalog": packing.pack(...)}`."""

GATEWAY_MAX_ONGOING_REQUESTS = 512
"""Requests with a body that one gateway replica works on at the same time, and each is mostly waiting. More are refused by
the gateway itself, as OpenAI's clients understand it."""

GATEWAY_RAY_ONGOING_REQUESTS = 2 * GATEWAY_MAX_ONGOING_REQUESTS
"""Requests that Ray Serve lets into a gateway replica: room for those that are refused there, and for probes and reports,
which must be answered while all places are taken. Ray Serve's own default is 5."""

GATEWAY_RAY_QUEUED_REQUESTS = 4096
"""Requests that Ray Serve lets wait in front of a gateway replica, as many as its HAProxy has connections by default. Ray
refuses further ones with a 503 in plain text; by itself it would let any number wait."""

MODEL_IMPORT_PATH = "lateen_serving.engine.app:build"
"""`build(args: dict) -> Application`; `args` is a `ModelArguments` document."""


ROUTER_CLASS = "lateen_serving.routing.routers.StrategyRouter"
"""`request_router_config.request_router_class` of every model's deployment. One for all strategies: Ray Serve restarts
replicas for another class, so the gateway tells the router its strategy instead (`catalog.Model.routing`)."""


class WeightsArguments(SpecType):
    """Where weights come from, as a replica needs it."""

    uri: str
    """As in `spec.source.uri`."""

    digest: str | None = None
    """As in `spec.source.digest`."""

    secret: str | None = None
    """`NAMESPACE/NAME` of the Secret with the credentials. Its keys are files of the folder
    `$LATEEN_SECRETS/NAMESPACE/NAME` of every Ray node; no secret travels through Ray."""


class AdapterArguments(WeightsArguments):
    """A LoRA adapter."""

    name: str
    """As in `spec.adapters[].name`."""

    @property
    def identity(self) -> str:
        """Hash of all of it: what a replica says it has can be told from what it is to have."""
        return names.revision(self.dump())


class ModelUserConfig(SpecType):
    """The `user_config` of a model's deployment: what replicas take while they serve, through `reconfigure`."""

    adapters: list[AdapterArguments] = Field(default=[])
    """The adapters to have, sorted by name; all others are unloaded."""

    max_ongoing_requests: int | None = None
    """Requests a replica works on at the same time, which Ray Serve enforces too; None: as it was started."""


class ModelArguments(WeightsArguments):
    """Arguments of a model application: everything a replica needs to load its weights."""

    id: str
    """What clients call the model; for logs."""

    task: Task
    """What it does."""

    engine: Literal["auto", "transformers", "vllm"]
    """As in `spec.engine.type`; `auto` is decided by the replica, which sees the hardware."""

    dtype: str = "auto"
    """Number format, as in `spec.engine.dtype`."""

    max_model_len: int | None = None
    """Longest sequence in tokens; None: what the model was trained for."""

    kv_cache_bytes: int | None = None
    """Memory for keys and values, as in `spec.engine.kvCacheMemory`; None: the engine's own default."""

    max_ongoing_requests: int = 32
    """Requests a replica works on at the same time, when it was started; `ModelUserConfig` has the present number."""

    threads: int = 1
    """Compute threads of a replica."""

    attempt: int = 0
    """Counts the operator's retries of a failed start; a changed value makes Ray Serve try again."""


REPLICA_FAILURE = "lateen-failure"
"""A replica that can't start raises an exception whose text has the line `lateen-failure Reason: message`.

Ray Serve repeats that text in the application's status, where the operator finds it again.
Reasons are those of `conditions.Reason`.
"""
