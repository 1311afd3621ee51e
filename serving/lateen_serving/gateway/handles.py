# SPDX-License-Identifier: Apache-2.0
"""Model calls through Ray Serve handles: the implementation of `context.ModelCaller`. Built by `app.py`.

Ray's ways to fail become ServiceErrors here: a replica that died while it worked is ReplicaLost, one that stopped or is
not there and a missing application Unavailable (all worth another try), a full queue Overloaded, and what the engine
raised arrives as it was raised.

All calls are streams, also those with one reply: Ray Serve says of a stream that a replica has taken it, before its first
item, and only so can waiting for a replica be told from work. Of a unary call it says that when all is done.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import grpc  # type: ignore[import-untyped] # comes with ray[serve], without stubs
from ray import serve
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from lateen_api import names
from lateen_api.scaling import RoutingStrategy
from lateen_serving.engine.protocol import Counted, Embeddings, GenerateRequest, Ranking, TokenEvent
from lateen_serving.errors import ModelError, Overloaded, ReplicaLost, ServiceError, Unavailable
from lateen_serving.gateway import waiting
from lateen_serving.routing import steering

END_SECONDS = 1.0
"""How long a call may go on behind its last item."""


class _Taken(Protocol):
    """What is used of Ray Serve's ReplicaResult."""

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None: ...


class _Stream(Protocol):
    """What is used of Ray Serve's DeploymentResponseGenerator."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    async def _fetch_future_result_async(self) -> _Taken:
        """Waits until a replica has taken the call. Ray Serve 2.60 has no other way to ask for that."""
        ...

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


def _is_finished(event: TokenEvent) -> bool:
    return event.get("finish_reason") is not None


def _is_all(_reply: object) -> bool:
    return True


class RayModels:
    """Calls model applications of this Ray cluster. One per replica."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.Task[_Application]] = {}
        self._strategies: Mapping[str, RoutingStrategy] = {}
        self._ending: set[_Stream] = set()

    def generate(self, application: str, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Events of one answer; closing the generator before the last one cancels the call, in the queue or in the
        replica.
        """
        return self._items(application, "generate", _is_finished, request)

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
        async with aclosing(self._items(application, method, _is_all, *arguments)) as items:
            async for item in items:
                return item
        raise ModelError("The model gave no answer.", code="answer_incomplete")

    async def _items(
        self, application: str, method: str, is_last: Callable[[Any], bool], *arguments: object
    ) -> AsyncGenerator[Any, None]:
        """What a method of the application yields; says that work has begun when a replica has taken the call.

        Whoever has the last item may close it at once: the call ends by itself behind it, and is not cancelled.
        """
        with _translated(application) as call:
            called = await self._handle(application)
            # The first handle of a method makes Ray's side of the application's handle.
            handle = called.method(method)
            await steering.steered(called.handle, self._strategies.get(application, "LeastLoaded"))
            response = cast("_Stream", handle.remote(*arguments))
            items = aiter(response)
            is_done = has_last = False
            try:
                taken = await response._fetch_future_result_async()
                call.has_begun = True
                waiting.begun()
                async for item in items:
                    has_last = is_last(item)
                    yield item
                is_done = True
            finally:
                # Nothing is awaited here: the task may be in the middle of its own cancellation.
                if has_last and not is_done:
                    self._end(response, taken)
                elif not is_done:
                    _cancel(response)

    def _end(self, response: _Stream, taken: _Taken) -> None:
        """Let a call end by itself beside all else, so that its client need not wait for it.

        A cancellation would cost a message for every call, and Ray Serve leaves cancelled calls out of its counts. So
        only a call that does not end in time is cancelled; until then it is kept, because the garbage collector would
        cancel it.
        """
        loop = asyncio.get_running_loop()

        def give_up() -> None:
            self._ending.discard(response)  # whether or not Ray will ever say that it is over
            _cancel(response)

        giving_up = loop.call_later(END_SECONDS, give_up)
        self._ending.add(response)

        def forget() -> None:
            giving_up.cancel()
            self._ending.discard(response)

        def over(_call: object) -> None:
            loop.call_soon_threadsafe(forget)  # Ray's actor calls end in a thread of their own

        taken.add_done_callback(over)

    async def _handle(self, application: str) -> "_Application":
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
            if self._handles.get(application) is finding:
                del self._handles[application]
            raise


@dataclass
class _Call:
    """One call of an application."""

    application: str
    has_begun: bool = False
    """Whether a replica works on it."""

    def failure(self, error: Exception) -> ServiceError:
        """What it failed with, as the service says it."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, ServiceError):
            return cause
        if isinstance(cause, BackPressureError):
            return Overloaded("The model's queue is full. Try again in a moment.")
        if isinstance(cause, RayError | RayServeException | grpc.aio.AioRpcError):
            return self.lost(cause)
        return ModelError("The model failed on this request.", context=self._facts(cause))

    def lost(self, cause: BaseException) -> Unavailable:
        """The error of a replica or an application that is not there (any more)."""
        kind = ReplicaLost if self.has_begun and _is_death(cause) else Unavailable
        message = "The model is not available just now. Try again in a moment."
        return kind(message, code="model_unavailable", context=self._facts(cause))

    def _facts(self, cause: BaseException) -> dict[str, str | int | float]:
        return {"application": self.application, "cause": type(cause).__qualname__}


@contextmanager
def _translated(application: str) -> Iterator[_Call]:
    call = _Call(application)
    try:
        yield call
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this request: Ray says in this way that the replica dropped it.
        raise call.lost(error) from error
    except Exception as error:
        raise call.failure(error) from error


def _is_death(cause: BaseException) -> bool:
    """Whether a replica's process ended in the middle of its work, for all that its caller can see.

    A replica that stops as planned finishes its requests first, or drops them by cancelling them; one whose node is
    taken away (preempted) isn't to blame.
    """
    if isinstance(cause, grpc.aio.AioRpcError):
        return bool(cause.code() != grpc.StatusCode.CANCELLED)
    if isinstance(cause, RayActorError):
        return not cause.preempted
    return isinstance(cause, WorkerCrashedError | OutOfMemoryError)


class _Application:
    """The handle of a model, and those of its methods: making one is work that every request would pay for."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self.handle = handle
        self._methods: dict[str, DeploymentHandle[Any]] = {}

    def method(self, name: str) -> DeploymentHandle[Any]:
        """The handle that streams what the method `name` yields."""
        found = self._methods.get(name)
        if found is None:
            found = self._methods[name] = self.handle.options(method_name=name, stream=True)
        return found


def _look_up(application: str) -> _Application:
    """The handle of a model; raises RayServeException where Ray does not know it (yet)."""
    try:
        return _Application(serve.get_deployment_handle(names.MODEL_DEPLOYMENT, application))
    except KeyError as error:  # Ray's way to say so
        raise RayServeException(f"there is no application {application}") from error
