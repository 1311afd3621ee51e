# SPDX-License-Identifier: Apache-2.0
"""How calls of replicas end: by themselves behind their last item, by cancellation before it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray import serve

from lateen_serving.gateway import handles
from lateen_serving.gateway.handles import RayModels, _cancel
from unit.gateway_fakes import events
from unit.test_gateway_handles import Handle, Stream

REQUEST: Any = {"messages": []}


class Call(Stream):
    """A Ray Serve response that yields `items`, and is over when the test says so."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.told = asyncio.Event()
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        """Ray's side of the call is over, whether it went well or not."""
        for callback in self._callbacks:
            callback(self)

    def cancel(self) -> None:
        super().cancel()
        self.told.set()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """The call that every model of the test makes."""
    call = Call([*events("Hello", " world")])
    monkeypatch.setattr(serve, "get_deployment_handle", lambda *_: Handle(call))
    return call


async def read(models: RayModels, most: int) -> None:
    """Read so many events of an answer and close it."""
    answer = models.generate("app", REQUEST)
    for _ in range(most):
        await anext(answer)
    await answer.aclose()


async def test_a_finished_answer_ends_by_itself(call: Call) -> None:
    """Its client is not held up by the end of the call, which is kept until then and not cancelled."""
    models = RayModels()
    await read(models, 2)
    assert models._ending == {call}
    call.end()
    await asyncio.sleep(0)
    assert not models._ending
    assert not call.is_cancelled


async def test_so_does_a_call_with_one_reply(call: Call) -> None:
    """Embedding, ranking and counting are over with their reply."""
    models = RayModels()
    await models.embed("app", ["a"])
    assert models._ending == {call}
    call.end()
    await asyncio.sleep(0)
    assert not models._ending
    assert not call.is_cancelled


async def test_an_unfinished_answer_is_cancelled_at_once(call: Call) -> None:
    """Whoever leaves in the middle stops the work before `aclose` is over."""
    models = RayModels()
    await read(models, 1)
    assert call.is_cancelled
    assert not models._ending


async def test_a_call_that_does_not_end_is_cancelled(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that goes on behind the last event is stopped after a moment, and its call kept no longer."""
    monkeypatch.setattr(handles, "END_SECONDS", 0.0)
    models = RayModels()
    await read(models, 2)
    await call.told.wait()
    assert call.is_cancelled
    assert not models._ending


async def test_a_call_that_ended_is_not_cancelled_later(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is not awaited any more, and an end that Ray tells from another thread counts as well."""
    monkeypatch.setattr(handles, "END_SECONDS", 0.05)
    models = RayModels()
    await read(models, 2)
    await asyncio.to_thread(call.end)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await call.told.wait()
    assert not models._ending


class Waiting:
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
    response: Any = Waiting()
    result = Result()
    response._replica_result_future.set_result(result)
    _cancel(response)
    assert result.cancelled


async def test_waiting_call_is_cancelled() -> None:
    """A call that waits for a replica stops waiting."""
    response: Any = Waiting()
    _cancel(response)
    assert response._replica_result_future.cancelled()
