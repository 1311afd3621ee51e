# SPDX-License-Identifier: Apache-2.0
"""ModelDeployment: weights that become replicas behind the OpenAI-compatible endpoint."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lateen_api import names
from lateen_api.model_source import ModelSource, WeightsSource
from lateen_api.quantities import Duration, GpuQuantity, Quantity
from lateen_api.scaling import Autoscaling, Rollout, Routing
from lateen_api.schema import ItemName, SpecType, named_items, rule, rules

Task = Literal["generate", "embed", "rerank"]
EngineType = Literal["auto", "transformers", "vllm"]


class Engine(SpecType):
    """How the weights are run."""

    type: EngineType = "auto"
    """`auto` chooses for the task and the hardware, and the status says what and why; `transformers` runs any causal
    language model, BERT-like sentence embedder or cross-encoder; `vllm` needs vLLM installed on the Ray nodes."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of weights and arithmetic. `auto`: bfloat16 where the hardware computes in it, else float32."""

    max_model_len: Annotated[int | None, Field(ge=16, le=1_048_576)] = None
    """Longest sequence in tokens, prompt and answer together. Default: what the model was trained for."""

    kv_cache_memory: Quantity | None = None
    """Generation: memory for keys and values of running requests. Default: 1Gi on a CPU, 70 % of what is free on a
    GPU."""


class Adapter(WeightsSource):
    """A LoRA adapter: loaded and unloaded while the model serves, without a restart."""

    name: ItemName
    """Clients call it as `model="<model>:<name>"`."""


class Resources(SpecType):
    """What each replica reserves."""

    cpu: Quantity = "1"
    """Cores reserved per replica; also the number of compute threads (at least one)."""

    memory: Quantity = "1Gi"
    """Memory reserved per replica."""

    gpu: GpuQuantity = "0"
    """GPUs per replica; a fraction such as "0.5" shares one."""

    accelerator_type: Annotated[str | None, Field(min_length=1, max_length=63)] = None
    """Kind of GPU a node must have, as Ray names it, such as `H100` or `A10G`."""

    node_labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]],
        Field(max_length=16),
    ] = Field(default={})
    """Labels a Ray node must have, such as `ray.io/market-type: spot`."""


class ModelLimits(SpecType):
    """Bounds on what one replica and one caller may ask for."""

    max_ongoing_requests: Annotated[int, Field(ge=1, le=4096)] = 32
    """Requests one replica works on at the same time; more wait."""

    max_queued_requests: Annotated[int, Field(ge=1, le=65536)] = 128
    """Requests that may wait for a replica, in each gateway replica; beyond it callers get 503 with Retry-After. Where very
    many wait, no model's take more than half of the gateway's room, so that other models still answer."""

    queue_timeout: Duration = "30s"
    """Longest wait for a replica; beyond it callers get 503 with Retry-After. While a model that was scaled to zero
    starts, requests wait as well: give it at least the time the weights take to load."""

    request_timeout: Duration = "2m"
    """Longest time for one request, waiting included."""


class ModelDeploymentSpec(SpecType):
    """A model and how it is served."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "has(self.replicas) != has(self.autoscaling)",
                "set exactly one of replicas (a fixed number) and autoscaling",
            ),
            rule(
                "self.engine.type != 'vllm' || self.task == 'generate'",
                "engine.type: vllm is for task: generate",
            ),
            rule(
                "!has(self.adapters) || self.adapters.size() == 0 || self.task == 'generate'",
                "adapters are for task: generate",
            ),
        )
    }

    task: Task
    """`generate`: text generation (chat). `embed`: text embeddings. `rerank`: scores of documents for a query, by a
    cross-encoder."""

    source: ModelSource
    """Where the weights come from."""

    engine: Engine = Engine()
    """How the weights are run."""

    adapters: Annotated[list[Adapter], Field(max_length=32, json_schema_extra=named_items())] = Field(
        default=[]
    )
    """LoRA adapters of the model, each callable as a model of its own."""

    resources: Resources = Resources()
    """What each replica reserves."""

    replicas: Annotated[int | None, Field(ge=0, le=256)] = None
    """A fixed number of replicas; `kubectl scale` changes it. With 0 nothing is served and the model is not Ready."""

    autoscaling: Autoscaling | None = None
    """A number of replicas that follows the load."""

    routing: Routing = Routing()
    """How a request's replica is chosen."""

    limits: ModelLimits = ModelLimits()
    """Bounds on what one replica and one caller may ask for."""

    rollout: Rollout = Rollout()
    """How a new revision takes over from the one that serves."""

    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Revisions kept for `lateen history` and `lateen rollback`."""

    suspend: bool = False
    """True stops reconciling this resource without deleting anything."""

    def revision(self) -> str:
        """Hash of what changes the model's behaviour; everything else changes in place, without a restart."""
        part: dict[str, Any] = self.dump()
        source = {key: part["source"].get(key) for key in ("uri", "digest")}
        return names.revision(
            {"source": source} | {key: part.get(key) for key in ("task", "engine", "resources")}
        )
