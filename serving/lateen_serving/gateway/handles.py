# SPDX-License-Identifier: Apache-2.0
"""Model calls through Ray Serve handles: the implementation of `context.ModelCaller`. Built by `app.py`.

Ray's ways to fail become ServiceErrors here: a lost replica or application is Unavailable (worth another try), a full
queue Overloaded, and what the engine raised arrives as it was raised.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import grpc  # type: ignore[import-untyped] # comes with ray[serve], without stubs
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from lateen_serving.engine.protocol import Embeddings, GenerateRequest, Ranking, TokenEvent
from lateen_serving.errors import ModelError, Overloaded, ServiceError, Unavailable


class _Stream(Protocol):
    """What is used of Ray Serve's DeploymentResponseGenerator."""

    def __aiter__(self) -> AsyncIterator[TokenEvent]: ...

    def cancel(self) -> None: ...


class _Reply(Protocol):
    """What is used of Ray Serve's DeploymentResponse."""

    def __await__(self) -> Generator[Any, None, Any]: ...

    def cancel(self) -> None: ...


def _cancel(response: _Stream | _Reply) -> None:
    """Cancel a call wherever it is: waiting for a replica, in one, or just between the two.

    Ray Serve 2.60 forgets the last case. A call that got its replica in the very moment in which its caller was
    cancelled has its result in a future that nobody has looked into, and would run on until it is garbage-collected.
    """
    response.cancel()
    future = getattr(response, "_replica_result_future", None)
    if future is not None and future.done() and not future.cancelled() and future.exception() is None:
        future.result().cancel()


class RayModels:
    """Calls model applications of this Ray cluster. One per replica."""

    def __init__(self) -> None:
        self._handles: dict[str, DeploymentHandle[Any]] = {}

    async def generate(self, application: str, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Events of one answer; closing the generator cancels the call in the replica."""
        with self._translated(application):
            handle = await self._handle(application)
            response = cast("_Stream", handle.options(method_name="generate", stream=True).remote(request))
            is_done = False
            try:
                async for event in response:
                    yield event
                is_done = True
            finally:
                # Nothing is awaited here: the task may be in the middle of its own cancellation.
                if not is_done:
                    _cancel(response)

    async def embed(self, application: str, texts: list[str]) -> Embeddings:
        """Vectors of `texts`."""
        with self._translated(application):
            handle = await self._handle(application)
            response = cast("_Reply", handle.options(method_name="embed").remote(texts))
            try:
                vectors: Embeddings = await response
                return vectors
            except asyncio.CancelledError:
                _cancel(response)
                raise

    async def rerank(self, application: str, query: str, documents: list[str]) -> Ranking:
        """How well each document answers `query`."""
        with self._translated(application):
            handle = await self._handle(application)
            response = cast("_Reply", handle.options(method_name="rerank").remote(query, documents))
            try:
                ranking: Ranking = await response
                return ranking
            except asyncio.CancelledError:
                _cancel(response)
                raise

    async def _handle(self, application: str) -> DeploymentHandle[Any]:
        handle = self._handles.get(application)
        if handle is None:
            # It asks the Serve controller and blocks: in a thread, so that other requests go on.
            handle = await asyncio.to_thread(serve.get_app_handle, application)
            self._handles[application] = handle
        return handle

    @contextmanager
    def _translated(self, application: str) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this request: Ray says in this way that the replica dropped it.
            raise self._lost(application, error) from error
        except Exception as error:
            raise self._service_error(application, error) from error

    def _service_error(self, application: str, error: Exception) -> ServiceError:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, ServiceError):
            return cause
        if isinstance(cause, BackPressureError):
            return Overloaded("The model's queue is full. Try again in a moment.")
        if isinstance(cause, RayError | RayServeException | grpc.aio.AioRpcError):
            return self._lost(application, cause)
        return ModelError(
            "The model failed on this request.",
            context={"application": application, "cause": type(cause).__qualname__},
        )

    def _lost(self, application: str, cause: BaseException) -> Unavailable:
        self._handles.pop(application, None)
        return Unavailable(
            "The model is not available just now. Try again in a moment.",
            code="model_unavailable",
            context={"application": application, "cause": type(cause).__qualname__},
        )
