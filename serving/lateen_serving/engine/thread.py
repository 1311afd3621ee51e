# SPDX-License-Identifier: Apache-2.0
"""The one thread that does all torch work of a replica: it imports torch, loads the weights and runs them.

Used by `generator.py`, `embedder.py` and `reranker.py`. One thread, because torch's OpenMP pool runs nearly half as
fast in a second thread once a first one has used it.
"""

import asyncio
import gc
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from lateen_serving.errors import ReplicaLost, Unavailable

_LONGEST_CAUSE = 400
"""Characters of a failure that are kept for the log."""

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)


class Work(Protocol[T_contra]):
    """What runs in the thread: jobs go in, steps advance all of them."""

    def add(self, job: T_contra) -> None:
        """Take a job; cheap and never raises for the job's sake."""
        ...

    def step(self) -> bool:
        """Do one bounded piece of work; False when nothing is left to do until another job comes.

        Failures of jobs are told to the jobs; what is raised ends the thread.
        """
        ...

    def close(self, error: Exception) -> None:
        """Tell every job left that it ends with `error`."""
        ...


@contextmanager
def _without_collections() -> Iterator[None]:
    """Don't look for garbage: loading makes millions of objects that stay, and would be searched again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Stop:
    """Queued to end the thread."""


class TorchThread(Generic[T]):
    """Runs one `Work` in a thread of its own, from loading to the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inbox: queue.SimpleQueue[T | _Stop] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._closed = threading.Event()

    async def start(self, make: Callable[[], tuple[Work[T], R]]) -> R:
        """Call `make` in the thread, serve jobs to the work it returns, and give back its facts.

        Raises what `make` raises.
        """
        made: Future[R] = Future()
        self._thread = threading.Thread(target=self._run, args=(make, made), name=self._name, daemon=True)
        self._thread.start()
        return await asyncio.wrap_future(made)

    def submit(self, job: T) -> None:
        """Hand a job to the thread; raises Unavailable when the thread has ended."""
        self._inbox.put(job)
        if self._closed.is_set():
            raise self._stopped(Unavailable)

    def check(self) -> None:
        """Raise Unavailable when the thread has ended."""
        if self._closed.is_set():
            raise self._stopped(Unavailable)

    async def aclose(self) -> None:
        """End the thread after its current step; its jobs end with Unavailable."""
        self._inbox.put(_Stop())
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, make: Callable[[], tuple[Work[T], R]], made: "Future[R]") -> None:
        try:
            with _without_collections():
                work, facts = make()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits for the start
            self._closed.set()
            made.set_exception(error)
            return
        made.set_result(facts)
        try:
            self._serve(work)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._closed.set()
            self._tell_late_jobs(work)
            # It may be one of the jobs that made it fail.
            work.close(self._stopped(Unavailable if self._failure is None else ReplicaLost))

    def _stopped(self, kind: type[Unavailable]) -> Unavailable:
        """What is told when the thread has ended; why is for the log, as it may be the text of a foreign error."""
        cause = "closed" if self._failure is None else repr(self._failure)
        return kind("the model's engine has stopped", context={"cause": cause[:_LONGEST_CAUSE]})

    def _serve(self, work: Work[T]) -> None:
        busy = False
        while True:
            try:
                job = self._inbox.get(block=not busy)
            except queue.Empty:
                busy = work.step()
                continue
            if isinstance(job, _Stop):
                return
            work.add(job)
            busy = True

    def _tell_late_jobs(self, work: Work[T]) -> None:
        """Jobs that came between the last step and the end must not wait for ever."""
        while not self._inbox.empty():
            job = self._inbox.get()
            if not isinstance(job, _Stop):
                work.add(job)
