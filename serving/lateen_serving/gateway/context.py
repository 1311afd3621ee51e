# SPDX-License-Identifier: Apache-2.0
"""What travels through the pipeline: one `RequestContext` per request, and the seams its steps use.

authenticate -> resolve -> retrieve -> render -> generate -> stream: each step reads what earlier ones left here and
adds its own. Created by `ingress.py`, which also logs and counts it when the reply has ended.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from pydantic import SecretStr

from lateen_api.catalog import Index, Model, Prompt, PromptRevision, Pushed
from lateen_serving.engine.protocol import (
    ChatMessage,
    Counted,
    Embeddings,
    GenerateRequest,
    Grammar,
    PromptCut,
    Ranking,
    TokenEvent,
    Tool,
    Window,
)
from lateen_serving.errors import ServiceError
from lateen_serving.gateway.left_behind import LeftBehind
from lateen_serving.gateway.metrics import Metrics
from lateen_serving.gateway.replicas import Replicas
from lateen_serving.gateway.room import Room
from lateen_serving.gateway.state import GatewayState, Snapshot
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.file_store import File
from lateen_serving.rag.listing import DocumentPage, IndexedDocument, Wanted
from lateen_serving.rag.passages import Passage, Search

UPLOADS_AT_ONCE = 4


class ModelCaller(Protocol):
    """Calls model applications. Raises errors.Unavailable where another try may succeed.

    Each method calls `waiting.begun` when a replica has begun to work.
    """

    def generate(self, application: str, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Events of one answer; closing the generator stops the work in the replica, if the answer is not finished."""
        ...

    async def count(self, application: str, request: GenerateRequest) -> Counted:
        """The prompt that an answer would be made from."""
        ...

    async def embed(self, application: str, texts: list[str]) -> Embeddings:
        """Vectors of `texts`, in order."""
        ...

    async def rerank(self, application: str, query: str, documents: list[str]) -> Ranking:
        """How well each of `documents` answers `query`, in order."""
        ...


class Searcher(Protocol):
    """Finds passages and documents; `lateen_serving.rag.retrieve.Retriever` is the one that ships."""

    async def search(self, index: Index, wanted: Search) -> list[Passage]:
        """The best passages, best first."""
        ...

    async def documents(self, index: Index, wanted: Wanted) -> DocumentPage:
        """A page of the documents, in the order of their ids."""
        ...

    async def document(self, index: Index, document_id: str) -> IndexedDocument | None:
        """A document; None if there is none of that id."""
        ...

    async def at(self, index: Index, places: Sequence[tuple[str, int]]) -> list[Passage]:
        """The passages at `places` (document id, position) that are there, in no order."""
        ...


class Uploads(Protocol):
    """Keeps files and which indexes they are in; `lateen_serving.rag.uploads.Uploads` is the one that ships."""

    async def put(self, name: str, purpose: str, size: int, parts: AsyncIterator[bytes]) -> File:
        """Store a new file of `size` bytes; raises errors.InputError where there is no room."""
        ...

    async def get(self, file_id: str) -> File | None:
        """A file; None if there is none of that id."""
        ...

    async def page(
        self, after: File | None, limit: int, *, descending: bool, purpose: str | None
    ) -> list[File]:
        """The first `limit` files behind `after`, by the time of their upload."""
        ...

    def parts(self, file: File) -> AsyncIterator[bytes]:
        """The file's bytes; raises errors.NotFound when it has been deleted meanwhile."""
        ...

    async def delete(self, file_id: str) -> None:
        """Delete a file; gone is fine."""
        ...

    async def attach(self, pushed: Pushed, file: File, attributes: Mapping[str, Value]) -> None:
        """Put a file into an index, or give it other attributes; raises errors.InputError where there is no room."""
        ...

    async def attached(self, pushed: Pushed, file_id: str) -> bool:
        """Whether a file is in an index, or on its way into it."""
        ...

    async def detach(self, pushed: Pushed, file_id: str) -> None:
        """Take a file out of an index; one that is not in it is fine."""
        ...


@dataclass(frozen=True)
class Service:
    """Everything the steps need from outside the request."""

    state: GatewayState
    caller: ModelCaller
    searcher: Searcher
    uploads: Uploads
    metrics: Metrics
    log: structlog.typing.FilteringBoundLogger
    pause: Callable[[float], Awaitable[None]]
    """Waits that many seconds between attempts; `asyncio.sleep`."""

    replicas: Replicas
    """What is known of the replicas behind the applications."""

    report_token: SecretStr
    """Opens `/internal/report`; empty: nothing does."""

    largest_file: int = 64 * 2**20
    """Bytes of the largest file that clients may upload."""

    uploading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    """Uploads that are read at the same time; they are kept on the disk meanwhile."""

    room: Room = field(default_factory=Room)
    """Which requests may wait for a model."""

    left_behind: LeftBehind = field(default_factory=LeftBehind)
    """Calls that go on after the wait for them."""

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
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


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
    adapter: str = ""
    """The LoRA adapter of the model that answers; empty: none."""

    prompt: Prompt | None = None
    prompt_revision: PromptRevision | None = None
    indexes: list[Index] = field(default_factory=list)
    query: str = ""
    query_param: str = "query"
    """Where the request has what is searched for."""

    passages: list[Passage] = field(default_factory=list)
    retrieval: list[str] = field(default_factory=list)
    """What is to be known of the retrieval: `nothing_found`, or `not_reranked;index=<id>` where a reranker was away."""

    messages: list[ChatMessage] = field(default_factory=list)
    window: Window | None = None
    """How long `messages` may be, where the prompt says so."""

    cut: list[PromptCut] = field(default_factory=list)
    """What the prompt lost to fit, as the replica told."""

    sampling: Sampling = Sampling()
    tools: list[Tool] = field(default_factory=list)
    """Functions the model is told of."""

    grammar: Grammar | None = None
    """What the answer must look like."""

    choices: int = 1
    """Answers per prompt."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Tokens of the prompt that the model did not have to read again."""

    first_token: float | None = None
    """When the first tokens arrived from the model."""

    error: ServiceError | None = None
    """What the request ended with, before or after its reply started."""

    disconnected: bool = False
    counted: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Tokens of each answer so far: of its prompt, of these the cached ones, and its own."""

    def count(self, number: int, event: TokenEvent) -> None:
        """Add what `event` says of answer `number`; a prompt that several answers share counts once."""
        before = self.counted.get(number, (0, 0, 0))
        now = (event["prompt_tokens"], event.get("cached_tokens", before[1]), event["completion_tokens"])
        self.counted[number] = now
        self.completion_tokens += now[2] - before[2]
        if number % self.choices == 0:
            self.prompt_tokens += now[0] - before[0]
            self.cached_tokens += now[1] - before[1]

    @property
    def has_searched(self) -> bool:
        """Whether passages were looked for, and so are to be told of."""
        return bool(self.indexes)

    def passages_read(self) -> list[Passage]:
        """The passages that the model was given: those found but for what was cut."""
        kept = [cut["after"] for cut in self.cut if cut["unit"] == "passages"]
        return self.passages[: kept[0]] if kept else self.passages

    def told_retrieval(self) -> str:
        """`retrieval` as a structured field (RFC 9651); empty: nothing is to be known."""
        return ", ".join(self.retrieval)

    def told_cut(self) -> str:
        """What was cut, as a structured field (RFC 9651): `context;unit=passages;before=5;after=2, …`; empty: nothing."""
        return ", ".join(
            f"{cut['what']};unit={cut['unit']};before={cut['before']};after={cut['after']}"
            for cut in self.cut
        )

    def release(self) -> str:
        """What served this request: `model=<id>[:<adapter>]@<revision>,prompt=…,index=…`; empty if nothing was used."""
        parts = []
        if self.model is not None:
            adapter = f":{self.adapter}" if self.adapter else ""
            parts.append(f"model={self.model.id}{adapter}@{self.model.revision}")
        if self.prompt is not None and self.prompt_revision is not None:
            parts.append(f"prompt={self.prompt.id}@{self.prompt_revision.revision}")
        parts.extend(f"index={index.id}@{index.revision}" for index in self.indexes)
        return ",".join(parts)
