# SPDX-License-Identifier: Apache-2.0
"""The operator's work queue, on a clock that only the test moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from lateen_operator.seams import Backoff, Key, Kind, Unavailable, Wish
from lateen_operator.workqueue import LONGEST_RETRY, WorkQueue

A, B, C = (Key(Kind.MODEL_DEPLOYMENT, "default", name) for name in "abc")


@dataclass
class FakeTimer:
    when: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeTime:
    now: float = 0.0
    timers: list[FakeTimer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> FakeTimer:
        timer = FakeTimer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def planned(self) -> list[float]:
        return sorted(timer.when - self.now for timer in self.timers if not timer.cancelled)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer.callback()


class Bench:
    """A queue whose work waits at a gate and ends as told."""

    def __init__(self, concurrency: int = 8) -> None:
        self.time = FakeTime()
        self.started: list[Key] = []
        self.running: list[Key] = []
        self.busiest = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.outcomes: list[Exception | Wish] = []
        self.queue = WorkQueue(self.work, self.time, concurrency, jitter=lambda: 0.0)

    async def work(self, key: Key) -> Wish:
        self.started.append(key)
        self.running.append(key)
        self.busiest = max(self.busiest, len(self.running))
        await self.gate.wait()
        self.running.remove(key)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def settle(self) -> None:
        """Let every task go as far as it can: nothing here waits for real time."""
        for _ in range(20):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """The queue at work inside the block."""
    task = asyncio.create_task(bench.queue.run())
    await bench.settle()
    try:
        yield bench
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_key_that_is_added_often_before_it_is_handled_is_handled_once() -> None:
    """Triggers of one key are deduplicated while it waits."""
    bench = Bench()
    for key in (A, A, B, A):
        bench.queue.add(key)
    assert bench.queue.depth == 2
    async with running(bench):
        assert bench.started == [A, B]
        assert bench.queue.depth == 0


async def test_key_that_is_added_while_it_is_handled_is_handled_again_afterwards() -> None:
    """A change during a reconcile is not lost, and never handled beside it."""
    bench = Bench()
    bench.gate.clear()
    async with running(bench):
        bench.queue.add(A)
        await bench.settle()
        bench.queue.add(A)
        bench.queue.add(A)
        await bench.settle()
        assert bench.started == [A]
        bench.gate.set()
        await bench.settle()
        assert bench.started == [A, A]
        assert bench.busiest == 1


async def test_no_more_keys_are_handled_at_once_than_allowed() -> None:
    """The bound on concurrency holds, and everything is handled in the end."""
    bench = Bench(concurrency=2)
    bench.gate.clear()
    async with running(bench):
        for key in (A, B, C):
            bench.queue.add(key)
        await bench.settle()
        assert bench.started == [A, B]
        bench.gate.set()
        await bench.settle()
        assert bench.started == [A, B, C]
        assert bench.busiest == 2


async def test_key_is_handled_again_when_it_wished_to_be() -> None:
    """The seconds a reconcile returns are kept, to the second."""
    bench = Bench()
    bench.outcomes = [30.0]
    async with running(bench):
        bench.queue.add(A)
        await bench.settle()
        bench.time.advance(29)
        await bench.settle()
        assert bench.started == [A]
        bench.time.advance(1)
        await bench.settle()
        assert bench.started == [A, A]


@pytest.mark.parametrize(("delays", "expected"), [((30, 10), 10), ((10, 30), 10)])
async def test_earliest_of_several_plans_counts(delays: tuple[int, int], expected: int) -> None:
    """A later plan never postpones an earlier one."""
    bench = Bench()
    for delay in delays:
        bench.queue.add_after(A, delay)
    assert bench.time.planned() == [expected]


async def test_change_replaces_the_plan_of_its_key() -> None:
    """A key handled now is not handled again because of an old plan."""
    bench = Bench()
    bench.queue.add_after(A, 10)
    bench.queue.add_after(B, 20)
    bench.queue.add(A)
    assert bench.time.planned() == [20]


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a bug")])
async def test_failing_key_is_retried_ever_more_slowly_until_it_succeeds(error: Exception) -> None:
    """Backoff doubles to a ceiling and is forgotten by a success; any exception counts."""
    bench = Bench()
    bench.outcomes = [error] * 9
    waited: list[float] = []
    async with running(bench):
        bench.queue.add(A)
        for _ in range(9):
            await bench.settle()
            waited += bench.time.planned()
            bench.time.advance(waited[-1])
        assert waited == [1, 2, 4, 8, 16, 32, LONGEST_RETRY, LONGEST_RETRY, LONGEST_RETRY]
        await bench.settle()
        assert bench.time.planned() == []
        bench.outcomes = [error]
        bench.queue.add(A)
        await bench.settle()
        assert bench.time.planned() == [1]


async def test_one_failing_key_does_not_hold_up_the_others() -> None:
    """Each key has its own backoff."""
    bench = Bench(concurrency=1)
    bench.outcomes = [Unavailable("away"), None]
    async with running(bench):
        bench.queue.add(A)
        bench.queue.add(B)
        await bench.settle()
        assert bench.started == [A, B]


async def test_drain_waits_for_what_runs_and_starts_nothing_more() -> None:
    """A graceful exit ends between reconciles."""
    bench = Bench(concurrency=1)
    bench.gate.clear()
    async with running(bench):
        bench.queue.add(A)
        bench.queue.add(B)
        await bench.settle()
        drained = asyncio.create_task(bench.queue.drain())
        await bench.settle()
        assert not drained.done()
        bench.gate.set()
        await drained
        await bench.settle()
        assert bench.started == [A]


async def test_longest_active_tells_how_long_the_oldest_reconcile_runs() -> None:
    """What /healthz calls stuck is measured from the start of the reconcile."""
    bench = Bench()
    bench.gate.clear()
    async with running(bench):
        assert bench.queue.longest_active() == 0
        bench.queue.add(A)
        await bench.settle()
        bench.time.advance(5)
        bench.queue.add(B)
        await bench.settle()
        bench.time.advance(2)
        assert bench.queue.longest_active() == 7


async def test_cancelled_queue_drops_its_plans() -> None:
    """Nothing fires after the end."""
    bench = Bench()
    async with running(bench):
        bench.queue.add_after(A, 10)
    assert bench.time.planned() == []


async def test_key_that_waits_for_the_same_is_looked_at_ever_later() -> None:
    """Up to the bound; what waits for something else, or for nothing, begins anew."""
    bench = Bench()
    same, other = Backoff(1.0, 3.0, "a"), Backoff(1.0, 3.0, "b")
    bench.outcomes = [same, same, same, same, same, other, other, 0.2, same]
    pauses = []
    async with running(bench):
        bench.queue.add(A)
        for _ in range(len(bench.outcomes)):
            await bench.settle()
            (pause,) = bench.time.planned()
            pauses.append(pause)
            bench.time.advance(pause)
    assert pauses == pytest.approx([1.0, 1.5, 2.25, 3.0, 3.0, 1.0, 1.5, 0.2, 1.0])
