# SPDX-License-Identifier: Apache-2.0
"""The Ray Serve application of one model revision. Ray Serve calls `build` with what the operator wrote.

Thin: resolves the weights, makes the engine and forwards. Replicas, resources and queue bounds come from the Serve
config. Imports no torch: Ray Serve builds the application in a process of its own.
"""

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from lateen_api import names
from lateen_api.serve_config import REPLICA_FAILURE, ModelArguments
from lateen_serving.engine.embedder import TextEmbedder
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import Device, LoadOptions
from lateen_serving.engine.protocol import Description, Embeddings, Engine, GenerateRequest, TokenEvent
from lateen_serving.errors import LoadError
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import source

_log = logging.getLogger(__name__)
_START_FAILURES = 2
"""Failed starts after which Ray Serve gives up; the operator retries with backoff. Not a field of the Serve config."""


class ReplicaFailure(RuntimeError):
    """A replica can't start; the text has the line by which the operator finds the reason."""

    def __init__(self, error: LoadError) -> None:
        message = " ".join(error.message.split())
        super().__init__(f"\n{REPLICA_FAILURE} {error.code}: {message}\n")


class Model:
    """The one deployment of a model application: an engine behind Ray Serve's handle."""

    _engine: Engine

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        try:
            self._engine = await _make_engine(ModelArguments.model_validate(args))
        except LoadError as error:
            raise ReplicaFailure(error) from None
        except Exception as error:
            raise ReplicaFailure(LoadError(f"{type(error).__name__}: {error}")) from error

    async def generate(self, request: GenerateRequest) -> AsyncIterator[TokenEvent]:
        """See `protocol.Engine`; called with `handle.options(stream=True)`."""
        events = self._engine.generate(request)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]  # engines generate with async generators

    async def embed(self, texts: list[str]) -> Embeddings:
        """See `protocol.Engine`."""
        return await self._engine.embed(texts)

    async def tokenize(self, texts: list[str]) -> list[list[tuple[int, int]]]:
        """See `protocol.Engine`."""
        return await self._engine.tokenize(texts)

    async def describe(self) -> Description:
        """See `protocol.Engine`."""
        return self._engine.describe()

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica when this raises."""
        await self._engine.check_health()


async def _make_engine(arguments: ModelArguments) -> Engine:
    started = time.monotonic()
    folder = await source.resolve(arguments, ServingSettings())
    # Outside a replica, asking Ray would start one.
    device: Device = "cuda" if ray.is_initialized() and ray.get_gpu_ids() else "cpu"
    options = LoadOptions(
        folder=folder,
        device=device,
        dtype=arguments.dtype,
        max_model_len=arguments.max_model_len,
        threads=arguments.threads,
    )
    create = TextGenerator.create if arguments.task == "generate" else TextEmbedder.create
    engine: Engine = await create(options)
    seconds = time.monotonic() - started
    _log.info("model %s loaded in %.1f s: %s on %s", arguments.id, seconds, engine.describe(), device)
    return engine


def build(args: dict[str, Any]) -> Application:
    """The application for one `ModelArguments` document; raises pydantic.ValidationError if it is not one."""
    arguments = ModelArguments.model_validate(args)
    deployment = serve.deployment(name=names.MODEL_DEPLOYMENT, max_constructor_retry_count=_START_FAILURES)
    return deployment(Model).bind(arguments.dump())
