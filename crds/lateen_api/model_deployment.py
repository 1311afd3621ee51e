# SPDX-License-Identifier: Apache-2.0
"""ModelDeployment: weights that become replicas behind the OpenAI-compatible endpoint."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lateen_api import names
from lateen_api.quantities import Duration, GpuQuantity, Quantity
from lateen_api.schema import SpecType, rule, rules

Task = Literal["generate", "embed"]


class ModelSource(SpecType):
    """Where the weights come from."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.uri.startsWith('hf://') || self.uri.startsWith('pvc://') || self.uri.startsWith('file://')",
                "uri must start with hf://, pvc:// or file://, for example hf://org/name@revision,"
                " pvc://claim/path or file:///srv/models/name",
            ),
            rule(
                "!self.uri.startsWith('hf://') || self.uri.matches('^hf://[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9]"
                "[-A-Za-z0-9._]*(@[-A-Za-z0-9._/]+)?$')",
                "an hf:// uri is hf://org/name or hf://org/name@revision",
            ),
            rule(
                "!self.uri.startsWith('pvc://') || self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?$')",
                "a pvc:// uri is pvc://claim or pvc://claim/path",
            ),
            rule(
                "!self.uri.startsWith('file://') || self.uri.startsWith('file:///')",
                "a file:// uri has three slashes and an absolute path: file:///srv/models/name",
            ),
            rule("!self.uri.contains('/..')", "uri must not contain '..'; name the folder itself"),
        )
    }

    uri: Annotated[str, Field(min_length=6, max_length=1024)]
    """`hf://org/name@revision` (a model hub), `pvc://claim/path` (a volume mounted by the Ray nodes) or
    `file:///path` (a folder of the node, below a root the administrator allows). The folder holds safetensors
    weights, `config.json` and the tokenizer, as transformers saves them. Pickled weights are refused."""


class Engine(SpecType):
    """How the weights are run."""

    type: Literal["auto", "transformers"] = "auto"
    """`auto` chooses for the task; `transformers` runs any causal language model or BERT-like sentence embedder."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of weights and arithmetic. `auto`: bfloat16 where the hardware computes in it, else float32."""

    max_model_len: Annotated[int | None, Field(ge=16, le=1_048_576)] = None
    """Longest sequence in tokens, prompt and answer together. Default: what the model was trained for."""


class Resources(SpecType):
    """What each replica reserves."""

    cpu: Quantity = "1"
    """Cores reserved per replica; also the number of compute threads (at least one)."""

    memory: Quantity = "1Gi"
    """Memory reserved per replica."""

    gpu: GpuQuantity = "0"
    """GPUs per replica; a fraction such as "0.5" shares one."""


class ModelLimits(SpecType):
    """Bounds on what one replica and one caller may ask for."""

    max_ongoing_requests: Annotated[int, Field(ge=1, le=4096)] = 32
    """Requests one replica works on at the same time; more wait."""

    max_queued_requests: Annotated[int, Field(ge=0, le=65536)] = 128
    """Requests that may wait for a replica; beyond it callers get 503 with Retry-After."""

    request_timeout: Duration = "2m"
    """Longest time for one request, waiting included."""


class ModelDeploymentSpec(SpecType):
    """A model and how it is served."""

    task: Task
    """`generate`: text generation (chat). `embed`: text embeddings."""

    source: ModelSource
    """Where the weights come from."""

    engine: Engine = Engine()
    """How the weights are run."""

    resources: Resources = Resources()
    """What each replica reserves."""

    replicas: Annotated[int, Field(ge=0, le=256)] = 1
    """Number of replicas; `kubectl scale` changes it. With 0 nothing is served and the model is not Ready."""

    limits: ModelLimits = ModelLimits()
    """Bounds on what one replica and one caller may ask for."""

    suspend: bool = False
    """True stops reconciling this resource without deleting anything."""

    def revision(self) -> str:
        """Hash of what changes the model's behaviour; replicas and limits change in place."""
        part: dict[str, Any] = self.dump()
        return names.revision({key: part.get(key) for key in ("task", "source", "engine", "resources")})
