# SPDX-License-Identifier: Apache-2.0
"""The Ray Serve application of one model revision. Ray Serve calls `build` with what the operator wrote.

Thin: resolves the weights, makes the engine and forwards. Replicas, resources and queue bounds come from the Serve
config. Imports no torch: Ray Serve builds the application in a process of its own.
"""

import asyncio
import importlib.util
import itertools
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray import serve
from ray.serve import Application
from ray.serve.exceptions import RayServeException

from lateen_api import names
from lateen_api.gateway_report import AdapterFact, Facts
from lateen_api.model_deployment import Task
from lateen_api.serve_config import (
    REPLICA_FAILURE,
    AdapterArguments,
    ModelArguments,
    ModelUserConfig,
)
from lateen_serving.engine.choosing import EngineName, choose_engine
from lateen_serving.engine.embedder import TextEmbedder
from lateen_serving.engine.gathering import gathered
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import Device, LoadOptions
from lateen_serving.engine.protocol import (
    AdapterWeights,
    Counted,
    Description,
    Embeddings,
    Engine,
    GenerateRequest,
    Ranking,
    TokenEvent,
)
from lateen_serving.errors import LoadError, NotFound, ServiceError, Unavailable
from lateen_serving.facts import publish
from lateen_serving.outbound.wording import shown
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import source

_log = logging.getLogger(__name__)
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 300.0
_CLIENTS_SECONDS = 1.0
"""So long after a client's request builds still give way: the next one is likely to come."""
_START_FAILURES = 2
"""Failed starts after which Ray Serve gives up; the operator retries with backoff. Not a field of the Serve config."""


class ReplicaFailure(RuntimeError):
    """A replica can't start; the text has the line by which the operator finds the reason."""

    def __init__(self, error: LoadError) -> None:
        message = " ".join(error.message.split())
        super().__init__(f"\n{REPLICA_FAILURE} {error.code}: {message}\n")


class Clients:
    """When others than index builds asked last."""

    def __init__(self) -> None:
        self._ongoing = 0
        self._last = float("-inf")

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A request of theirs, while it is worked on."""
        self._ongoing += 1
        try:
            yield
        finally:
            self._ongoing -= 1
            self._last = time.monotonic()

    def asked_since(self, moment: float) -> bool:
        """Whether a request was worked on after `moment` of the monotonic clock."""
        return bool(self._ongoing) or self._last >= moment


class Model:
    """The one deployment of a model application: an engine behind Ray Serve's handle."""

    _engine: Engine
    _reason: str
    """Why this engine was chosen."""
    _ready_seconds: float
    """From the start of a process until the weights are loaded. What came before this object counts by the processor
    time it took, which is what a fresh process spends on its imports: the hours that Ray may have kept a process ready
    for whoever came are nobody's wait.
    """

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        imported, started = time.process_time(), time.monotonic()
        try:
            self._engine, self._reason = await _make_engine(ModelArguments.model_validate(args))
        except LoadError as error:
            raise ReplicaFailure(error) from None
        except Exception as error:
            raise ReplicaFailure(LoadError(f"{type(error).__name__}: {error}")) from error
        self._ready_seconds = imported + time.monotonic() - started
        self._clients = Clients()
        self._taking = asyncio.Lock()
        self._wanted: ModelUserConfig | None = None
        self._insisting: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Ray Serve with a `ModelUserConfig`: have this room and these adapters. Never raises: that would end
        the replica.
        """
        try:
            self._wanted = ModelUserConfig.model_validate(user_config)
            if self._wanted.max_ongoing_requests is not None:
                self._engine.make_room(self._wanted.max_ongoing_requests)
            if not await self._take(self._wanted):
                self._insisting = asyncio.create_task(self._insist(self._wanted))
        except Exception:  # noqa: BLE001 - see above
            _log.exception("the user_config can't be followed")

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """See `protocol.Engine`; called with `handle.options(stream=True)`."""
        events = self._engine.generate(request)
        if request.get("whole"):
            events = gathered(events)
        try:
            async for event in events:
                yield event
        except NotFound as error:
            raise self._missing(request, error) from error
        finally:
            await events.aclose()

    def _missing(self, request: GenerateRequest, error: NotFound) -> ServiceError:
        """What to raise for an adapter that is not there: one that should be is worth another try, elsewhere or later."""
        wanted = self._wanted.adapters if self._wanted is not None else []
        if all(adapter.name != request.get("adapter") for adapter in wanted):
            return error
        message = "This replica has not loaded the adapter. Try again in a moment."
        return Unavailable(message, code="adapter_loading", param="model")

    async def embed(self, texts: list[str]) -> Embeddings:
        """See `protocol.Engine`; for index builds, which give way to clients: says whether any asked meanwhile."""
        started = time.monotonic()
        found = await self._engine.embed(texts)
        return {**found, "busy": self._clients.asked_since(started - _CLIENTS_SECONDS)}

    async def rerank(self, query: str, documents: list[str]) -> Ranking:
        """See `protocol.Engine`."""
        return await self._engine.rerank(query, documents)

    async def stream_count(self, request: GenerateRequest) -> AsyncIterator[Counted]:
        """See `protocol.Engine.count`; a stream of one, as `stream_embed`."""
        yield await self._engine.count(request)

    async def stream_embed(self, texts: list[str]) -> AsyncIterator[Embeddings]:
        """`embed` as a stream of one, for callers that must know when their wait for a replica is over: Ray Serve tells
        them so of streams only.
        """
        with self._clients.asking():
            found = await self._engine.embed(texts)
        yield found

    async def stream_rerank(self, query: str, documents: list[str]) -> AsyncIterator[Ranking]:
        """`rerank`, likewise."""
        yield await self._engine.rerank(query, documents)

    async def tokenize(self, texts: list[str]) -> list[list[tuple[int, int]]]:
        """See `protocol.Engine`."""
        return await self._engine.tokenize(texts)

    async def describe(self) -> Description:
        """See `protocol.Engine`."""
        return self._engine.describe()

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica when this raises."""
        await self._engine.check_health()

    async def _insist(self, config: ModelUserConfig) -> None:
        """Try adapters that failed again, ever more slowly, until all answer or others are wanted."""
        for attempt in itertools.count():
            await asyncio.sleep(min(_FIRST_RETRY_SECONDS * 2.0**attempt, _LAST_RETRY_SECONDS))
            if self._wanted is not config:
                return
            try:
                if await self._take(config):
                    return
            except Exception:  # noqa: BLE001 - a retry that fails is followed by another
                _log.exception("adapters can't be had")

    async def _take(self, config: ModelUserConfig) -> bool:
        """Have the adapters of `config` and tell of them; whether all answer."""
        async with self._taking:
            outcome = await self._adapted(config)
        await self._publish(outcome)
        return not any(fact.reason for fact in outcome.values())

    async def _adapted(self, config: ModelUserConfig) -> dict[str, AdapterFact]:
        weights: list[AdapterWeights] = []
        failures: dict[str, LoadError] = {}
        for adapter in config.adapters:
            try:
                weights.append(await _adapter_weights(adapter))
            except LoadError as error:
                failures[adapter.name] = error
            except Exception as error:  # noqa: BLE001 - one adapter's failure is its own
                _log.exception("adapter %s can't be had", adapter.name)
                failures[adapter.name] = _adapter_error(f"it can't be had ({type(error).__name__})")
        refused = await self._engine.set_adapters(weights)
        failures |= {name: _adapter_error(reason) for name, reason in refused.items()}
        outcome = {adapter.name: _fact(adapter, failures.get(adapter.name)) for adapter in config.adapters}
        for name, fact in outcome.items():
            _log.info("adapter %s: %s", name, fact.message or "answers")
        return outcome

    async def _publish(self, adapters: dict[str, AdapterFact]) -> None:
        """Tell the gateway what is loaded; outside a replica there is nobody to tell."""
        try:
            replica = serve.get_replica_context()
        except RayServeException:
            return
        description = self._engine.describe()
        facts = Facts(
            parameters=description["parameters"],
            context_tokens=description["max_tokens"],
            dtype=description["dtype"],
            memory_bytes=psutil.Process().memory_info().rss,
            load_seconds=self._ready_seconds,
            engine=description["engine"],
            engine_reason=self._reason,
            adapters=adapters,
        )
        await publish(replica.app_name, replica.replica_tag, facts)


def _adapter_error(reason: str) -> LoadError:
    return LoadError(reason, code="AdapterFailed")


def _fact(adapter: AdapterArguments, failure: LoadError | None) -> AdapterFact:
    if failure is None:
        return AdapterFact(identity=adapter.identity)
    return AdapterFact(identity=adapter.identity, reason=failure.code, message=failure.message)


async def _make_engine(arguments: ModelArguments) -> tuple[Engine, str]:
    """The engine, loaded, and why it is this one; raises LoadError."""
    started = time.monotonic()
    # Outside a replica, asking Ray would start one.
    device: Device = "cuda" if ray.is_initialized() and ray.get_gpu_ids() else "cpu"
    installed = importlib.util.find_spec("vllm") is not None
    name, reason = choose_engine(arguments.engine, arguments.task, device, installed)
    if name == "vllm" and not installed:
        raise LoadError(
            "engine.type asks for vllm, which this node has not installed", code="ModelUnsupported"
        )
    options = LoadOptions(
        folder=await source.resolve(arguments, ServingSettings()),
        device=device,
        dtype=arguments.dtype,
        max_model_len=arguments.max_model_len,
        threads=arguments.threads,
        max_rows=arguments.max_ongoing_requests,
        cache_bytes=arguments.kv_cache_bytes,
    )
    engine = await _create(name, arguments.task, options)
    seconds = time.monotonic() - started
    _log.info("model %s loaded in %.1f s: %s (%s)", arguments.id, seconds, engine.describe(), reason)
    return engine, reason


async def _create(name: EngineName, task: Task, options: LoadOptions) -> Engine:
    engine: Engine
    if name == "vllm":
        from lateen_serving.engine.vllm import VllmGenerator

        engine = await VllmGenerator.create(options)
    elif task == "generate":
        engine = await TextGenerator.create(options)
    elif task == "rerank":
        from lateen_serving.engine.reranker import TextReranker

        engine = await TextReranker.create(options)
    else:
        engine = await TextEmbedder.create(options)
    return engine


async def _adapter_weights(adapter: AdapterArguments) -> AdapterWeights:
    folder = await source.resolve_adapter(adapter, ServingSettings())
    try:
        states = [(folder / name).stat() for name in ("adapter_config.json", "adapter_model.safetensors")]
    except OSError as error:
        raise LoadError(
            f"{shown(adapter.uri)} must hold adapter_config.json and adapter_model.safetensors",
            code="SourceNotFound",
        ) from error
    stamp = " ".join(f"{state.st_mtime_ns}/{state.st_size}" for state in states)
    return AdapterWeights(
        name=adapter.name, folder=str(folder), identity=f"{adapter.uri} {adapter.digest} {folder} {stamp}"
    )


class Front:
    """What Ray Serve takes for the application's way in from HTTP; it never runs, and nobody calls it.

    Ray 2.60 refuses a request router of our own for that deployment while HAProxy is on, so the model is another one.
    """

    def __init__(self, model: Any) -> None:
        """Takes the model's handle, which makes the model part of the application."""


def build(args: dict[str, Any]) -> Application:
    """The application for one `ModelArguments` document; raises pydantic.ValidationError if it is not one."""
    nobody = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}
    front = serve.deployment(name=names.FRONT_DEPLOYMENT, autoscaling_config=nobody)
    return front(Front).bind(bound(args))


def bound(args: dict[str, Any]) -> Application:
    """The model's deployment alone; raises pydantic.ValidationError if `args` is no `ModelArguments` document."""
    arguments = ModelArguments.model_validate(args)
    deployment = serve.deployment(name=names.MODEL_DEPLOYMENT, max_constructor_retry_count=_START_FAILURES)
    return deployment(Model).bind(arguments.dump())
