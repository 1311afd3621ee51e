# SPDX-License-Identifier: Apache-2.0
"""What travels through the pipeline: one `RequestContext` per request, and the seams its steps use.

authenticate -> resolve -> retrieve -> render -> generate -> stream: each step reads what earlier ones left here and
adds its own. Created by `ingress.py`, which also logs and counts it when the reply has ended.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from pydantic import SecretStr

from lateen_api.catalog import Index, Model, Prompt, PromptRevision
from lateen_serving.engine.protocol import ChatMessage, Embeddings, GenerateRequest, Ranking, TokenEvent
from lateen_serving.errors import ServiceError
from lateen_serving.gateway.metrics import Metrics
from lateen_serving.gateway.replicas import Replicas
from lateen_serving.gateway.state import GatewayState, Snapshot
from lateen_serving.rag.retrieve import Passage


class ModelCaller(Protocol):
    """Calls model applications. Raises errors.Unavailable where another try may succeed.

    Each method calls `waiting.begun` when a replica has begun to work.
    """

    def generate(self, application: str, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Events of one answer, without the one that says that work has begun; closing the generator stops the work
        in the replica.
        """
        ...

    async def embed(self, application: str, texts: list[str]) -> Embeddings:
        """Vectors of `texts`, in order."""
        ...

    async def rerank(self, application: str, query: str, documents: list[str]) -> Ranking:
        """How well each of `documents` answers `query`, in order."""
        ...


class Searcher(Protocol):
    """Finds passages; `lateen_serving.rag.retrieve.Retriever` is the one that ships."""

    async def search(
        self, index: Index, query: str, vector: Sequence[float] | None, limit: int
    ) -> list[Passage]:
        """The at most `limit` best passages, best first; `vector` is None only in Keyword mode."""
        ...


@dataclass(frozen=True)
class Service:
    """Everything the steps need from outside the request."""

    state: GatewayState
    caller: ModelCaller
    searcher: Searcher
    metrics: Metrics
    log: structlog.typing.FilteringBoundLogger
    pause: Callable[[float], Awaitable[None]]
    """Waits that many seconds between attempts; `asyncio.sleep`."""

    replicas: Replicas
    """What is known of the replicas behind the applications."""

    report_token: SecretStr
    """Opens `/internal/report`; empty: nothing does."""

    roll: Callable[[], float] = random.random
    """A number in [0, 1) for each request; it picks the revision of a model with a canary."""

    echoes_request_id: bool = True
    """Whether the gateway puts `x-request-id` on replies; False where the server around it does."""


@dataclass(frozen=True)
class Sampling:
    """How the answer is generated; the meaning is `GenerateRequest`'s."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass
class RequestContext:
    """One request. Times are seconds of the event loop's clock."""

    request_id: str
    snapshot: Snapshot
    """The catalog this request started with."""

    started: float
    roll: float = 0.0
    """In [0, 1): which revision of a model with a canary takes this request. See `choosing.turns`."""

    endpoint: str = "other"
    """Route template, for logs and metrics."""

    key_name: str = ""
    deadline: float | None = None
    """When the request must be done; known once its model is."""

    model: Model | None = None
    prompt: Prompt | None = None
    prompt_revision: PromptRevision | None = None
    indexes: list[Index] = field(default_factory=list)
    query: str = ""
    passages: list[Passage] = field(default_factory=list)
    messages: list[ChatMessage] = field(default_factory=list)
    sampling: Sampling = Sampling()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None
    """When the first tokens arrived from the model."""

    error: ServiceError | None = None
    """What the request ended with, before or after its reply started."""

    disconnected: bool = False

    def generate_request(self) -> GenerateRequest:
        """What the model is asked."""
        sampling = self.sampling
        return GenerateRequest(
            messages=self.messages,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop=list(sampling.stop),
        )

    def release(self) -> str:
        """What served this request: `model=<id>@<revision>,prompt=…,index=…`; empty if nothing was used."""
        parts = []
        if self.model is not None:
            parts.append(f"model={self.model.id}@{self.model.revision}")
        if self.prompt is not None and self.prompt_revision is not None:
            parts.append(f"prompt={self.prompt.id}@{self.prompt_revision.revision}")
        parts.extend(f"index={index.id}@{index.revision}" for index in self.indexes)
        return ",".join(parts)
