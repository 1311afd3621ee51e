# SPDX-License-Identifier: Apache-2.0
"""How calls of replicas end: by themselves behind their last item, by cancellation before it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ray import serve

from lateen_serving.gateway import handles
from lateen_serving.gateway.handles import RayModels
from unit.gateway_fakes import events
from unit.test_gateway_handles import Handle, Stream

REQUEST: Any = {"messages": []}


class Call(Stream):
    """A Ray Serve response that yields `items` and ends, or breaks, when the test says so."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.go_on = asyncio.Event()
        self.over = asyncio.Event()
        self.error: Exception | None = None
        self.has_ended = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._items or []:
            yield item
        await self.go_on.wait()
        self.has_ended = True
        self.over.set()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        super().cancel()
        self.over.set()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """The call that every model of the test makes."""
    call = Call([None, *events("Hello", " world")])
    monkeypatch.setattr(serve, "get_deployment_handle", lambda *_: Handle(call))
    return call


async def read(models: RayModels, most: int) -> None:
    """Read so many events of an answer and close it."""
    answer = models.generate("app", REQUEST)
    for _ in range(most):
        await anext(answer)
    await answer.aclose()


async def test_a_finished_answer_ends_by_itself(call: Call) -> None:
    """Its client is not held up by the end of the call, which is read beside it and not cancelled."""
    models = RayModels()
    await read(models, 2)
    assert not call.has_ended
    call.go_on.set()
    await call.over.wait()
    assert (call.has_ended, call.is_cancelled) == (True, False)


async def test_so_does_a_call_with_one_reply(call: Call) -> None:
    """Embedding, ranking and counting are over with their reply."""
    models = RayModels()
    await models.embed("app", ["a"])
    call.go_on.set()
    await call.over.wait()
    assert (call.has_ended, call.is_cancelled) == (True, False)


async def test_an_unfinished_answer_is_cancelled_at_once(call: Call) -> None:
    """Whoever leaves in the middle stops the work before `aclose` is over."""
    await read(RayModels(), 1)
    assert call.is_cancelled


async def test_a_call_that_does_not_end_is_cancelled(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that goes on behind the last event is stopped after a moment."""
    monkeypatch.setattr(handles, "END_SECONDS", 0.0)
    models = RayModels()
    await read(models, 2)
    await call.over.wait()
    assert (call.has_ended, call.is_cancelled) == (False, True)


async def test_a_call_that_breaks_behind_its_answer_hurts_nobody(call: Call) -> None:
    """The answer was whole; the call is cleared away, and nothing is kept of it."""
    models = RayModels()
    call.error = RuntimeError("lost")
    await read(models, 2)
    (ending,) = models._ending
    call.go_on.set()
    await ending
    assert call.is_cancelled
    assert not models._ending
