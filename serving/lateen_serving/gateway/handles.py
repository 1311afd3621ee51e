# SPDX-License-Identifier: Apache-2.0
"""Model calls through Ray Serve handles: the implementation of `context.ModelCaller`. Built by `app.py`.

Ray's ways to fail become ServiceErrors here: a lost replica or application is Unavailable (worth another try), a full
queue Overloaded, and what the engine raised arrives as it was raised.

All calls are streams, also those with one reply: a stream's first item comes when a replica begins to work, and only so
can waiting for a replica be told from work (Ray Serve's own reply to a unary call comes when all is done).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Protocol, cast

import grpc  # type: ignore[import-untyped] # comes with ray[serve], without stubs
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from lateen_api import names
from lateen_api.scaling import RoutingStrategy
from lateen_serving.engine.protocol import Counted, Embeddings, GenerateRequest, Ranking, TokenEvent
from lateen_serving.errors import ModelError, Overloaded, ServiceError, Unavailable
from lateen_serving.gateway import waiting
from lateen_serving.routing import steering


class _Stream(Protocol):
    """What is used of Ray Serve's DeploymentResponseGenerator."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    def cancel(self) -> None: ...


def _cancel(response: _Stream) -> None:
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
        self._handles: dict[str, asyncio.Task[DeploymentHandle[Any]]] = {}
        self._strategies: Mapping[str, RoutingStrategy] = {}

    def generate(self, application: str, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Events of one answer; closing the generator cancels the call, in the queue or in the replica."""
        return self._items(application, "generate", request)

    async def count(self, application: str, request: GenerateRequest) -> Counted:
        """The prompt that an answer would be made from."""
        found: Counted = await self._only(application, "stream_count", request)
        return found

    async def embed(self, application: str, texts: list[str]) -> Embeddings:
        """Vectors of `texts`."""
        found: Embeddings = await self._only(application, "stream_embed", texts)
        return found

    async def rerank(self, application: str, query: str, documents: list[str]) -> Ranking:
        """How well each of `documents` answers `query`."""
        found: Ranking = await self._only(application, "stream_rerank", query, documents)
        return found

    def keep(self, strategies: Mapping[str, RoutingStrategy]) -> None:
        """Route by these strategies, by application; forget the handles of all others, whose running calls go on."""
        self._strategies = dict(strategies)
        for gone in self._handles.keys() - strategies.keys():
            del self._handles[gone]

    async def _only(self, application: str, method: str, *arguments: object) -> Any:
        async with aclosing(self._items(application, method, *arguments)) as items:
            async for item in items:
                return item
        raise ModelError("The model gave no answer.", code="answer_incomplete")

    async def _items(self, application: str, method: str, *arguments: object) -> AsyncGenerator[Any, None]:
        """What a method of the application yields, after the item that says that work has begun."""
        with self._translated(application):
            handle = await self._handle(application)
            steering.steer(handle, self._strategies.get(application, "LeastLoaded"))
            response = cast("_Stream", handle.options(method_name=method, stream=True).remote(*arguments))
            has_begun = False
            is_done = False
            try:
                async for item in response:
                    if has_begun:
                        yield item
                    else:
                        has_begun = True
                        waiting.begun()
                is_done = True
            finally:
                # Nothing is awaited here: the task may be in the middle of its own cancellation.
                if not is_done:
                    _cancel(response)

    async def _handle(self, application: str) -> DeploymentHandle[Any]:
        """The one handle of an application: each has a queue of its own, so a second one would double its bound."""
        finding = self._handles.get(application)
        if finding is None:
            # It asks the Serve controller and blocks: in a thread, so that other requests go on.
            finding = asyncio.create_task(asyncio.to_thread(_look_up, application))
            self._handles[application] = finding
        try:
            # One request's end must not be the end of all that wait for the same handle.
            return await asyncio.shield(finding)
        except Exception:
            self._handles.pop(application, None)
            raise

    @contextmanager
    def _translated(self, application: str) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this request: Ray says in this way that the replica dropped it.
            raise _lost(application, error) from error
        except Exception as error:
            raise self._service_error(application, error) from error

    def _service_error(self, application: str, error: Exception) -> ServiceError:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, ServiceError):
            return cause
        if isinstance(cause, BackPressureError):
            return Overloaded("The model's queue is full. Try again in a moment.")
        if isinstance(cause, RayError | RayServeException | grpc.aio.AioRpcError):
            return _lost(application, cause)
        return ModelError(
            "The model failed on this request.",
            context={"application": application, "cause": type(cause).__qualname__},
        )


def _look_up(application: str) -> DeploymentHandle[Any]:
    """The handle of a model; raises RayServeException where Ray does not know it (yet)."""
    try:
        return serve.get_deployment_handle(names.MODEL_DEPLOYMENT, application)
    except KeyError as error:  # Ray's way to say so
        raise RayServeException(f"there is no application {application}") from error


def _lost(application: str, cause: BaseException) -> Unavailable:
    return Unavailable(
        "The model is not available just now. Try again in a moment.",
        code="model_unavailable",
        context={"application": application, "cause": type(cause).__qualname__},
    )


async def count_serving() -> dict[str, int]:
    """Replicas that serve, by model application; raises what Ray raises."""
    status = await asyncio.to_thread(serve.status)
    found = {}
    for name, application in status.applications.items():
        deployment = application.deployments.get(names.MODEL_DEPLOYMENT)
        if deployment is not None:
            found[name] = sum(
                number for state, number in deployment.replica_states.items() if state == "RUNNING"
            )
    return found
