# SPDX-License-Identifier: Apache-2.0
"""Calls that outlive the wait for them: what the waiting gets, what goes on, and what is stopped."""

import asyncio
from typing import Any

import pytest

from lateen_serving.errors import Unavailable
from lateen_serving.gateway import left_behind
from lateen_serving.gateway.left_behind import LeftBehind


class Work:
    """A call that ends when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.end, self.over = asyncio.Event(), asyncio.Event()
        self.error, self.was_stopped = error, False

    async def __call__(self) -> str:
        try:
            await self.end.wait()
            if self.error is not None:
                raise self.error
            return "done"
        except asyncio.CancelledError:
            self.was_stopped = True
            raise
        finally:
            self.over.set()


def soon() -> float:
    """A deadline that passes at once."""
    return asyncio.get_running_loop().time() + 0.01


async def test_what_is_done_in_time_is_handed_over() -> None:
    """A result or the call's own error, also a timeout of its own."""
    later = asyncio.get_running_loop().time() + 60
    errors: list[Exception | None] = [None, Unavailable("away"), TimeoutError("its own")]
    for work in map(Work, errors):
        work.end.set()
        calls = LeftBehind()
        if work.error is None:
            assert await calls.wait(work(), later) == "done"
        else:
            with pytest.raises(type(work.error)):
                await calls.wait(work(), later)
        assert len(calls) == 0


@pytest.mark.parametrize("error", [None, Unavailable("away"), ValueError("a defect")])
async def test_what_is_late_goes_on(error: Exception | None) -> None:
    """The waiting gets nothing; only a failure that nobody has counted is reported."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what["exception"]))
    calls, work = LeftBehind(), Work(error)
    assert await calls.wait(work(), soon()) is None
    assert (len(calls), work.was_stopped) == (1, False)
    work.end.set()
    await work.over.wait()
    await asyncio.sleep(0)
    assert len(calls) == 0
    assert told == ([error] if isinstance(error, ValueError) else [])


async def test_no_more_go_on_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is stopped when the wait for it is over."""
    monkeypatch.setattr(left_behind, "MOST", 1)
    calls, first, second = LeftBehind(), Work(), Work()
    await calls.wait(first(), soon())
    assert await calls.wait(second(), soon()) is None
    assert (len(calls), first.was_stopped, second.was_stopped) == (1, False, True)
    first.end.set()
    await first.over.wait()


async def test_a_request_that_is_cancelled_leaves_nothing_behind() -> None:
    """Its client has gone: the call is stopped at once."""
    calls, work = LeftBehind(), Work()
    waiting = asyncio.create_task(calls.wait(work(), asyncio.get_running_loop().time() + 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (len(calls), work.was_stopped) == (0, True)
