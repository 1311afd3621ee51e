# SPDX-License-Identifier: Apache-2.0
"""A gateway in memory for unit tests: real web application and pipeline, fake models and fake search."""

import asyncio
import io
import json
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import openai
from pydantic import SecretStr
from starlette.applications import Starlette

from lateen_api import names, packing
from lateen_api.gateway_report import Facts
from lateen_serving.engine.protocol import (
    Counted,
    Embeddings,
    GenerateRequest,
    Ranking,
    TokenChoice,
    TokenEvent,
    TokenLogprob,
)
from lateen_serving.facts import Census, Living, Record
from lateen_serving.gateway import ingress, logs, waiting
from lateen_serving.gateway.context import Service
from lateen_serving.gateway.metrics import Metrics
from lateen_serving.gateway.replicas import Replicas
from lateen_serving.gateway.state import GatewayState
from lateen_serving.rag.passages import Passage
from unit.gateway_search import FakeSearch
from unit.gateway_uploads import FakeUploads

KEY = "unit-test-key-0123456789abcdef"
TOKEN = SecretStr("unit-test-ray-token-0123456789abcdef")
DIMENSION = 4
LARGEST_FILE = 4096


def events(*texts: str, prompt_tokens: int = 7, finish_reason: str = "stop") -> list[TokenEvent]:
    """An answer of these texts, one event each."""
    answer = [
        TokenEvent(text=text, prompt_tokens=prompt_tokens, completion_tokens=number)
        for number, text in enumerate(texts, start=1)
    ]
    answer[-1]["finish_reason"] = "length" if finish_reason == "length" else "stop"
    return answer


def with_logprobs(answer: list[TokenEvent], top: int) -> list[TokenEvent]:
    """The same answer, each event with the log probability of its text as one token and of `top` others."""
    for event in answer:
        choice = TokenChoice(token=event["text"], bytes=list(event["text"].encode()), logprob=-0.5)
        others = [TokenChoice(token=f"other{n}", bytes=[111], logprob=-1.0 - n) for n in range(top)]
        event["logprobs"] = [TokenLogprob(**choice, top=others)]
    return answer


def model(
    model_id: str,
    revision: str = "r1",
    task: str = "generate",
    timeout: int = 30,
    adapters: Sequence[str] = (),
) -> dict[str, Any]:
    """A model of a catalog document."""
    return {
        "id": model_id,
        "task": task,
        "revision": revision,
        "application": f"default_{model_id}_{revision}",
        "created": 1_700_000_000,
        "requestTimeoutSeconds": timeout,
        "adapters": list(adapters),
    }


def index(
    index_id: str, mode: str = "Hybrid", limit: int = 3, embedder: str = "default_minilm_r1"
) -> dict[str, Any]:
    """An index of a catalog document."""
    return {
        "id": index_id,
        "alias": f"{index_id}_live",
        "collection": f"{index_id}_r1",
        "revision": "i1",
        "embedder": "minilm",
        "embedderRevision": "r1",
        "embedderApplication": embedder,
        "retrieval": {"mode": mode, "limit": limit},
        "created": 1_700_000_001,
    }


def taking(index_id: str, **changes: Any) -> dict[str, Any]:
    """An index of a catalog document that takes what clients push."""
    pushed = {"source": "docs", "collection": f"{index_id}_pushed", "maxDocumentBytes": 1000}
    return index(index_id) | {"pushed": pushed | changes}


def prompt_revision(version: str, **spec: Any) -> dict[str, Any]:
    """A revision of a prompt that has its passages in the system message."""
    template = {
        "version": version,
        "messages": [
            {"role": "system", "content": "Answer from these:\n{context}"},
            {"role": "user", "content": "{question}"},
        ],
        "variables": [
            {"name": "question", "rules": [{"minLength": 3}]},
            {"name": "context", "from": "retrieval"},
        ],
        "defaults": {"temperature": "0.2", "maxOutputTokens": 64, "stop": ["END"]},
    }
    return {"revision": f"p{version}", "created": 1_700_000_002, "spec": template | spec}


PLAIN_PROMPT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Say {what} to {name}"}],
    "variables": [{"name": "what"}, {"name": "name", "default": "all"}],
    "defaults": {},
}


def catalog(**changes: Any) -> dict[str, Any]:
    """A catalog document with one of everything."""
    document = {
        "keys": [{"name": "other", "digest": "0" * 64}, {"name": "tester", "digest": names.key_digest(KEY)}],
        "models": [
            model("chatty", adapters=["support"]),
            model("minilm", task="embed"),
            model("ranker", task="rerank"),
        ],
        "prompts": [
            {"id": "grounded", "revisions": [prompt_revision("2"), prompt_revision("1")]},
            {"id": "plain", "revisions": [prompt_revision("1", **PLAIN_PROMPT)]},
        ],
        "indexes": [index("handbook"), index("notes", mode="Keyword", limit=1)],
    }
    return document | changes


def sent(document: dict[str, Any]) -> dict[str, Any]:
    """A catalog document as the operator sends it: the gateway's `user_config`."""
    return {"catalog": packing.pack(document)}


def passage(document_id: str, text: str, score: float = 0.9, heading: str = "") -> Passage:
    """A passage of the document `source/<file>`."""
    filename = document_id.split("/", 1)[1]
    return Passage(document_id, filename, text, score, heading, 0, f"file:///{filename}")


@dataclass
class FakeModels:
    """Model applications: `answers` holds, per application, what the next calls do (a list of events and errors)."""

    answers: dict[str, list[list[TokenEvent | Exception]]] = field(default_factory=dict)
    default: list[TokenEvent | Exception] = field(default_factory=lambda: list(events("Hello", " world")))
    calls: list[tuple[str, GenerateRequest]] = field(default_factory=list)
    counted: list[tuple[str, GenerateRequest]] = field(default_factory=list)
    embedded: list[tuple[str, list[str]]] = field(default_factory=list)
    ranked: list[tuple[str, str, list[str]]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    """When set, an answer waits for it before each event but the first."""
    silent: asyncio.Event | None = None
    """When set, an answer waits for it before its first event."""
    queue: asyncio.Event | None = None
    """When set, no replica begins to work before it."""
    cold: set[str] = field(default_factory=set)
    """Applications of which no replica ever begins to work."""
    refusals: dict[str, list[Exception]] = field(default_factory=dict)
    """Per application, what the next calls raise before a replica has begun."""

    async def generate(self, application: str, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        self.calls.append((application, request))
        self.asked.set()
        queue = self.answers.get(application)
        answer = queue.pop(0) if queue else self.default
        try:
            await self._begin(application)
            if self.silent is not None:
                await self.silent.wait()
            for number, event in enumerate(answer):
                if number and self.hold is not None:
                    await self.hold.wait()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed.append(application)

    async def _begin(self, application: str) -> None:
        refusals = self.refusals.get(application)
        if refusals:
            raise refusals.pop(0)
        if self.queue is not None:
            await self.queue.wait()
        if application in self.cold:
            await asyncio.Event().wait()
        waiting.begun()

    @asynccontextmanager
    async def _work(self, application: str) -> AsyncGenerator[None, None]:
        """Around a call with one reply."""
        self.asked.set()
        try:
            await self._begin(application)
            if self.silent is not None:
                await self.silent.wait()
            yield
        finally:
            self.closed.append(application)

    async def count(self, application: str, request: GenerateRequest) -> Counted:
        """A token for each word."""
        self.counted.append((application, request))
        async with self._work(application):
            words = [word for message in request["messages"] for word in message["content"].split()]
            return Counted(messages=request["messages"], tokens=len(words), cut=[])

    async def embed(self, application: str, texts: list[str]) -> Embeddings:
        self.embedded.append((application, texts))
        async with self._work(application):
            rows = np.zeros((len(texts), DIMENSION), dtype=np.float32)
            rows[:, 0] = 1.0
            rows[:, 1] = np.arange(len(texts))
            return Embeddings(vectors=rows, tokens=[len(text.split()) for text in texts])

    async def rerank(self, application: str, query: str, documents: list[str]) -> Ranking:
        """The longer the better."""
        self.ranked.append((application, query, documents))
        async with self._work(application):
            scores = [1 - 1 / (1 + len(document)) for document in documents]
            return Ranking(scores=scores, tokens=[len(document.split()) for document in documents])


@dataclass
class FakeCluster:
    """What Ray knows of replicas: facts and numbers of serving ones, by application."""

    facts: dict[str, Facts] = field(default_factory=dict)
    serving: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    forgotten: list[tuple[str, str]] = field(default_factory=list)
    error: Exception | None = None
    asked_at: float = math.inf
    """Of the last census; later than everything unless a test says otherwise."""

    async def records(self) -> list[Record]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return [Record(name, "replica-0", 1.0, facts) for name, facts in self.facts.items()]

    async def living(self) -> Census:
        numbers = dict.fromkeys(self.facts, 0) | self.serving
        found = {
            name: Living(frozenset(f"replica-{n}" for n in range(number))) for name, number in numbers.items()
        }
        return Census(found | {"gateway": Living()}, self.asked_at)

    async def forget(self, records: tuple[Record, ...]) -> None:
        self.forgotten += [(record.application, record.replica) for record in records]


class World:
    """One gateway replica with fakes around it."""

    def __init__(self) -> None:
        self.output = io.StringIO()
        log = logs.logger(self.output)
        self.state = GatewayState(log)
        self.models = FakeModels()
        self.search = FakeSearch()
        self.uploads = FakeUploads(self.search)
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None
        self.cluster = FakeCluster()
        self.roll = 0.0
        self.now = 0.0
        replicas = Replicas(self.cluster, log, lambda: self.now)
        self.service = Service(
            self.state,
            self.models,
            self.search,
            self.uploads,
            Metrics("replica-0"),
            log,
            self._pause,
            replicas,
            report_token=TOKEN,
            roll=lambda: self.roll,
            largest_file=LARGEST_FILE,
        )
        self.app: Starlette = ingress.create(self.service)
        self.accept()

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_pause()

    def accept(self, **changes: Any) -> None:
        """Switch to another catalog."""
        arrived = self.state.read(sent(catalog(**changes)))
        if arrived is not None:
            self.state.switch(arrived)

    def transport(self) -> httpx2.ASGITransport:
        """Calls the application in this process."""
        return httpx2.ASGITransport(app=self.app)

    def http(self, key: str = KEY) -> httpx2.AsyncClient:
        """A plain client; an empty key sends none."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.AsyncClient(
            transport=self.transport(), base_url="http://gateway", headers=headers, trust_env=False
        )

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        """The official client, without its own retries."""
        return openai.AsyncOpenAI(
            api_key=key,
            base_url="http://gateway/v1",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=self.transport(), trust_env=False),
        )

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        """Log lines of one kind."""
        lines = [json.loads(line) for line in self.output.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@dataclass
class RawExchange:
    """One request driven at the ASGI level, so that the client can go away when the test says so."""

    app: Starlette
    path: str
    body: bytes
    method: str = "POST"
    messages: list[dict[str, Any]] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    kept_alive: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a comment has arrived."""

    async def run(self) -> None:
        """Send the request; after its body the client stays until `leave` is set."""
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": self.body, "more_body": False}
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.messages.append(message)
            if message.get("body"):
                self.started.set()
            if message.get("body", b"").startswith(b":"):
                self.kept_alive.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {KEY}".encode())],
            "server": ("gateway", 80),
            "client": ("client", 1),
        }
        await self.app(scope, receive, send)
