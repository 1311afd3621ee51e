# SPDX-License-Identifier: Apache-2.0
"""The thread that does all torch work of a replica."""

import asyncio
import gc
import threading

import pytest

from lateen_serving.engine.thread import TorchThread
from lateen_serving.errors import ReplicaLost, Unavailable


class Recorder:
    """Work that notes what happens to it and in which thread."""

    def __init__(self, steps: int = 1, failing: bool = False) -> None:
        self.jobs: list[str] = []
        self.threads = {threading.get_ident()}
        self.closed: list[Exception] = []
        self.idle = threading.Event()
        self.ended = threading.Event()
        self._steps = steps
        self._failing = failing

    def add(self, job: str) -> None:
        """Note a job."""
        self.jobs.append(job)

    def step(self) -> bool:
        """One of the steps asked for."""
        self.threads.add(threading.get_ident())
        if self._failing:
            raise MemoryError("no more")
        self._steps -= 1
        if self._steps <= 0:
            self.idle.set()
        return self._steps > 0

    def close(self, error: Exception) -> None:
        """Note the end."""
        self.closed.append(error)
        self.ended.set()


async def test_loading_and_every_step_happen_in_one_thread() -> None:
    """What loads also runs, away from the event loop's thread; jobs that come late are told of the end."""
    thread: TorchThread[str] = TorchThread("test")
    work = Recorder(steps=3)

    def make() -> tuple[Recorder, int]:
        work.threads = {threading.get_ident()}
        return work, 42

    assert await thread.start(make) == 42
    thread.submit("a")
    await asyncio.to_thread(work.idle.wait, 10)
    thread.check()
    await thread.aclose()
    assert work.jobs == ["a"]
    assert len(work.threads) == 1
    assert threading.get_ident() not in work.threads
    assert [type(error) for error in work.closed] == [Unavailable]
    with pytest.raises(Unavailable):
        thread.submit("late")


async def test_no_garbage_is_looked_for_while_loading() -> None:
    """Collections are off while the model is made, which they would slow down, and on again whatever comes of it."""
    thread: TorchThread[str] = TorchThread("test")
    during: list[bool] = []

    def make() -> tuple[Recorder, None]:
        during.append(gc.isenabled())
        if len(during) > 1:
            raise ValueError("bad weights")
        return Recorder(), None

    assert gc.isenabled()
    await thread.start(make)
    assert gc.isenabled()
    await thread.aclose()
    with pytest.raises(ValueError, match="bad weights"):
        await TorchThread[str]("test").start(make)
    assert gc.isenabled()
    assert during == [False, False]


async def test_what_loading_raises_reaches_the_caller() -> None:
    """A failed load is raised where the engine is made, and nothing keeps running."""
    thread: TorchThread[str] = TorchThread("test")

    def make() -> tuple[Recorder, None]:
        raise ValueError("bad weights")

    with pytest.raises(ValueError, match="bad weights"):
        await thread.start(make)
    await thread.aclose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_thread_is_unhealthy() -> None:
    """When a step ends the thread, its jobs end as a lost replica's; why is for the log, not for clients."""
    thread: TorchThread[str] = TorchThread("test")
    work = Recorder(failing=True)
    await thread.start(lambda: (work, None))
    thread.submit("a")
    await asyncio.to_thread(work.ended.wait, 10)
    await thread.aclose()
    assert [type(error) for error in work.closed] == [ReplicaLost]
    with pytest.raises(Unavailable) as caught:
        thread.check()
    for error in (caught.value, *work.closed):
        assert isinstance(error, Unavailable)
        assert "no more" in str(error.context["cause"])
        assert "no more" not in error.message
