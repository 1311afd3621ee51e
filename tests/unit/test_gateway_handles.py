# SPDX-License-Identifier: Apache-2.0
"""How Ray's ways to fail become the service's errors."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped] # as in `handles`
import pytest
from ray import serve
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
)

from lateen_serving.errors import (
    ContextTooLong,
    ModelError,
    Overloaded,
    QueueTimeout,
    ReplicaLost,
    ServiceError,
    Unavailable,
)
from lateen_serving.gateway.handles import RayModels, _cancel, _translated
from lateen_serving.gateway.waiting import Wait
from unit.gateway_fakes import events


def task_error(cause: Exception) -> Exception:
    """What a caller of a Ray task sees when it raised `cause`."""
    kind: Any = RayTaskError
    error: Exception = kind("generate", "traceback", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ActorDiedError(), Unavailable),
        (ActorUnavailableError("gone", None), Unavailable),
        (WorkerCrashedError(), Unavailable),
        (RayServeException("Application 'x' does not exist."), Unavailable),
        (BackPressureError(num_queued_requests=3, max_queued_requests=3), Overloaded),
        (task_error(BackPressureError(num_queued_requests=3, max_queued_requests=3)), Overloaded),
        (task_error(ContextTooLong("long", param="messages")), ContextTooLong),
        (ContextTooLong("long", param="messages"), ContextTooLong),
        (task_error(ValueError("private text")), ModelError),
        (ValueError("private text"), ModelError),
    ],
)
def test_translation(raised: Exception, expected: type[ServiceError]) -> None:
    """Every failure of a call is the ServiceError that says who has to act, without private details."""
    with pytest.raises(ServiceError) as caught, _translated("app"):
        raise raised
    assert type(caught.value) is expected
    assert "private" not in str(caught.value.to_dict())
    if expected is ContextTooLong:
        assert caught.value.param == "messages"


def grpc_error(code: grpc.StatusCode) -> Exception:
    """A call whose connection ended so."""
    error: Exception = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())
    return error


def out_of_memory() -> Exception:
    """A worker that Ray ended because its node had no memory left."""
    kind: Any = OutOfMemoryError
    error: Exception = kind("killed")
    return error


def preempted() -> Exception:
    """A replica whose node was taken away."""
    error = ActorDiedError()
    error._preempted = True
    return error


@pytest.mark.parametrize(
    ("raised", "begun", "expected"),
    [
        (ActorDiedError(), True, ReplicaLost),
        (ActorUnavailableError("gone", None), True, ReplicaLost),
        (task_error(ActorUnavailableError("gone", None)), True, ReplicaLost),
        (WorkerCrashedError(), True, ReplicaLost),
        (out_of_memory(), True, ReplicaLost),
        (grpc_error(grpc.StatusCode.UNAVAILABLE), True, ReplicaLost),
        (ActorDiedError(), False, Unavailable),
        (ActorUnavailableError("gone", None), False, Unavailable),
        (grpc_error(grpc.StatusCode.UNAVAILABLE), False, Unavailable),
        (grpc_error(grpc.StatusCode.CANCELLED), True, Unavailable),
        (preempted(), True, Unavailable),
        (RequestCancelledError("request"), True, Unavailable),
        (DeploymentUnavailableError(DeploymentID("Model", "app")), True, Unavailable),
    ],
)
async def test_a_death_under_work_is_told_from_a_stop(
    served: "Served", raised: Exception, begun: bool, expected: type[ServiceError]
) -> None:
    """Only a replica whose process ended while it worked is lost; all else is just not there."""
    models, _ = served([raised]) if begun else served([], raised)
    with pytest.raises(Unavailable) as caught:
        await models.embed("app", ["a"])
    assert (type(caught.value), caught.value.code) == (expected, "model_unavailable")


async def test_cancellation_by_ray_is_a_lost_replica() -> None:
    """A CancelledError nobody here asked for means that the replica dropped the call: worth another try."""
    with pytest.raises(Unavailable), _translated("app"):
        raise asyncio.CancelledError


async def test_own_cancellation_stays_one() -> None:
    """When this request is cancelled, the cancellation goes through unchanged."""
    entered = asyncio.Event()

    async def call() -> None:
        with _translated("app"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Call:
    """A Ray Serve response whose replica was found in the moment of its cancellation."""

    def __init__(self) -> None:
        self._replica_result_future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    def cancel(self) -> None:
        """Ray Serve's own cancellation: it only knows results that were awaited."""
        self._replica_result_future.cancel()


class Result:
    """The call inside the replica."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Stop it."""
        self.cancelled = True


async def test_call_assigned_while_cancelled_is_stopped_too() -> None:
    """A result nobody has awaited is cancelled as well."""
    response: Any = Call()
    result = Result()
    response._replica_result_future.set_result(result)
    _cancel(response)
    assert result.cancelled


async def test_waiting_call_is_cancelled() -> None:
    """A call that waits for a replica stops waiting."""
    response: Any = Call()
    _cancel(response)
    assert response._replica_result_future.cancelled()


class Stream:
    """A Ray Serve response: a replica takes the call (or it waits in the queue for ever, with None), and it yields `items`.

    The failure `refused` comes before a replica has taken it.
    """

    def __init__(self, items: list[Any] | None, refused: Exception | None = None) -> None:
        self._items = items
        self._refused = refused
        self.is_cancelled = False
        self.asked = asyncio.Event()

    async def _fetch_future_result_async(self) -> Any:
        self.asked.set()
        if self._refused is not None:
            raise self._refused
        if self._items is None:
            await asyncio.Event().wait()
        return self

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """The call is over when all has been read."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._items or []:
            if isinstance(item, Exception):
                raise item
            yield item

    def cancel(self) -> None:
        self.is_cancelled = True


class Handle:
    """A Ray Serve handle whose calls are all answered by one stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def options(self, *, method_name: str, stream: bool) -> Any:
        assert stream
        return Method(self, method_name)


@dataclass(frozen=True)
class Method:
    """The handle of one method."""

    handle: Handle
    name: str

    def remote(self, *arguments: Any) -> Stream:
        self.handle.calls.append((self.name, arguments))
        return self.handle.stream


REQUEST: Any = {"messages": []}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RayModels, Handle]]:
    """`served(items, refused)`: models whose every application answers so, and the handle."""

    def make(items: list[Any] | None, refused: Exception | None = None) -> tuple[RayModels, Handle]:
        handle = Handle(Stream(items, refused))
        monkeypatch.setattr(serve, "get_deployment_handle", lambda *_: handle)
        return RayModels(), handle

    return make


Served = Callable[..., tuple[RayModels, Handle]]


async def test_work_has_begun_when_a_replica_has_taken_the_call(served: Served) -> None:
    """Whoever waits is told so once, before the first item."""
    a, b = events("a", "b")
    models, handle = served([a, b])
    waits: list[float] = []

    async def first() -> tuple[Any, Any]:
        answer = models.generate("app", REQUEST)
        return await anext(answer), answer

    item, answer = await Wait(60.0, None, waits.append).attempt(first())
    assert (item, len(waits)) == (a, 1)
    assert [item async for item in answer] == [b]
    assert handle.calls == [("generate", (REQUEST,))]
    assert not handle.stream.is_cancelled


async def test_one_reply_is_a_stream_too(served: Served) -> None:
    """Embedding, ranking and counting are streams of the reply."""
    reply: Any = {"tokens": [1]}
    models, handle = served([reply])
    assert await models.embed("app", ["a"]) == reply
    assert await models.rerank("app", "q", ["d"]) == reply
    assert await models.count("app", REQUEST) == reply
    assert handle.calls == [
        ("stream_embed", (["a"],)),
        ("stream_rerank", ("q", ["d"])),
        ("stream_count", (REQUEST,)),
    ]


async def test_a_missing_reply_is_an_error(served: Served) -> None:
    """A replica that ends without a reply has failed."""
    models, _ = served([])
    with pytest.raises(ModelError):
        await models.embed("app", ["a"])


@pytest.mark.parametrize("method", ["generate", "embed", "rerank"])
async def test_cancelling_gives_up_the_place_in_the_queue(served: Served, method: str) -> None:
    """A request that is cancelled while it waits for a replica cancels its call."""
    models, handle = served(None)
    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "generate": lambda: anext(models.generate("app", REQUEST)),
        "embed": lambda: models.embed("app", ["a"]),
        "rerank": lambda: models.rerank("app", "q", ["d"]),
    }

    async def call() -> None:
        await calls[method]()

    task = asyncio.create_task(call())
    await handle.stream.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handle.stream.is_cancelled


async def test_a_queue_timeout_gives_up_the_place_in_the_queue(served: Served) -> None:
    """A wait that is over cancels the call."""
    models, handle = served(None)
    await models._handle("app")
    with pytest.raises(QueueTimeout):
        await Wait(0.0, None, lambda _: None).attempt(models.embed("app", ["a"]))
    assert handle.stream.is_cancelled


async def test_a_full_queue_is_told_before_anything_has_begun(served: Served) -> None:
    """Ray's refusal of a call arrives as Overloaded, and nothing was begun."""
    models, _ = served([], BackPressureError(num_queued_requests=3, max_queued_requests=3))
    wait = Wait(60.0, None, lambda _: None)
    with pytest.raises(Overloaded):
        await wait.attempt(models.embed("app", ["a"]))
    assert not wait.has_begun


async def test_an_application_has_one_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that come together look an application up once, also again after a replica was lost."""
    looked_up: list[str] = []
    handle = Handle(Stream(["reply"]))

    def look_up(deployment: str, application: str) -> Handle:
        assert deployment == "Model"
        looked_up.append(application)
        return handle

    monkeypatch.setattr(serve, "get_deployment_handle", look_up)
    models = RayModels()
    await asyncio.gather(*(models.embed("app", ["a"]) for _ in range(8)))
    with pytest.raises(Unavailable), _translated("app"):
        raise ActorDiedError
    await models.embed("app", ["a"])
    assert looked_up == ["app"]
    models.keep({"other": "RoundRobin"})
    await models.embed("app", ["a"])
    assert looked_up == ["app", "app"]


async def test_one_requests_end_does_not_end_a_shared_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is cancelled while an application is looked up leaves the look-up to the others."""
    begun, go_on = threading.Event(), threading.Event()

    def look_up(*_: str) -> Handle:
        begun.set()
        go_on.wait(timeout=30)
        return Handle(Stream(["reply"]))

    monkeypatch.setattr(serve, "get_deployment_handle", look_up)
    models = RayModels()
    leaving = asyncio.create_task(models.embed("app", ["a"]))
    staying = asyncio.create_task(models.embed("app", ["a"]))
    await asyncio.to_thread(begun.wait, 30)
    leaving.cancel()
    await asyncio.wait({leaving})
    go_on.set()
    reply: Any = await staying
    assert reply == "reply"


async def test_an_application_that_ray_does_not_know_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a new revision takes an old one's place there is none; that is no failure of the model."""

    def look_up(*_: str) -> Handle:
        raise KeyError("Deployment(name='Model', app='app') does not exist.")

    monkeypatch.setattr(serve, "get_deployment_handle", look_up)
    with pytest.raises(Unavailable) as caught:
        await RayModels().embed("app", ["a"])
    assert caught.value.retry_allowed


async def test_a_failed_look_up_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that is not there yet is looked up again by the next try."""
    handle = Handle(Stream(["reply"]))
    found: list[Any] = [RayServeException("Application 'app' does not exist."), handle]

    def look_up(*_: str) -> Any:
        outcome = found.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(serve, "get_deployment_handle", look_up)
    models = RayModels()
    with pytest.raises(Unavailable):
        await models.embed("app", ["a"])
    reply: Any = await models.embed("app", ["a"])
    assert reply == "reply"
