# SPDX-License-Identifier: Apache-2.0
"""The work queue between triggers and reconciles: per key, deduplicated, with retries. Wired by `main.py`.

    add / add_after --> waiting --> ready --> active --done--> forgotten, or waiting for as long as it asked
                                                     --failed--> waiting, longer each time
    add while active --> ready again once it is done

At most one worker per key, at most `concurrency` in all. Nothing polls: workers sleep until a key is ready.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from lateen_operator.seams import Backoff, Key, Unavailable, Wish

FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0
"""Seconds between attempts at a key that fails: doubling from the first to the longest."""

GROWTH = 1.5
"""How much later than the time before the same `Backoff` is looked at again."""

log = structlog.get_logger(__name__)


class Timer(Protocol):
    """A call that was planned."""

    def cancel(self) -> None:
        """Don't call."""
        ...


class Timekeeper(Protocol):
    """The part of an event loop that knows about time."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call `callback` in `delay` seconds."""
        ...


@dataclass(frozen=True)
class _Planned:
    when: float
    timer: Timer


class WorkQueue:
    """Calls `work` for every key that was added, until `run` is cancelled.

    Args:
        work: Handles a key; returns when it wants to be called again.
        timekeeper: The running event loop, or a test's.
        concurrency: Keys handled at the same time.
        jitter: Random number from 0 to 1, which stretches retries by up to a quarter.

    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[Wish]],
        timekeeper: Timekeeper,
        concurrency: int = 8,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._work = work
        self._timekeeper = timekeeper
        self._concurrency = concurrency
        self._jitter = jitter
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._queued: set[Key] = set()
        self._active: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._planned: dict[Key, _Planned] = {}
        self._failures: dict[Key, int] = {}
        self._patience: dict[Key, tuple[Backoff, float]] = {}

    @property
    def depth(self) -> int:
        """Keys that are ready but not yet handled."""
        return len(self._queued) + len(self._again)

    def longest_active(self) -> float:
        """Seconds that the longest running worker has been busy with one key; 0 when none is."""
        return self._timekeeper.time() - min(self._active.values()) if self._active else 0.0

    def add(self, key: Key) -> None:
        """Handle `key` as soon as a worker is free. Replaces whatever was planned for it."""
        self._unplan(key)
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Handle `key` in so many seconds; of several plans for a key the earliest counts."""
        when = self._timekeeper.time() + seconds
        planned = self._planned.get(key)
        if key in self._queued or key in self._again or (planned and planned.when <= when):
            return
        self._unplan(key)
        timer = self._timekeeper.call_later(seconds, lambda: self.add(key))
        self._planned[key] = _Planned(when, timer)

    async def run(self) -> None:
        """Work until cancelled; then plans are dropped and workers stop where they are."""
        try:
            async with asyncio.TaskGroup() as workers:
                for number in range(self._concurrency):
                    workers.create_task(self._worker(), name=f"worker-{number}")
        finally:
            for key in list(self._planned):
                self._unplan(key)

    async def drain(self) -> None:
        """Start nothing more, and wait until what is under way is done."""
        self._draining = True
        await self._idle.wait()

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            if self._draining:
                continue
            self._active[key] = self._timekeeper.time()
            self._idle.clear()
            try:
                await self._handle(key)
            finally:
                del self._active[key]
                if not self._active:
                    self._idle.set()
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def _handle(self, key: Key) -> None:
        try:
            wish = await self._work(key)
        except Unavailable as error:
            seconds = self._retry_after(key)
            log.warning("will try again", **_words(key), seconds=round(seconds, 1), error=str(error))
        except Exception:  # whatever a reconcile raises: the others go on, this one is retried
            seconds = self._retry_after(key)
            log.exception("a reconcile failed", **_words(key), seconds=round(seconds, 1))
        else:
            self._failures.pop(key, None)
            until = self._until(key, wish)
            if until is None:
                return
            seconds = until
        self.add_after(key, seconds)

    def _until(self, key: Key, wish: Wish) -> float | None:
        """Seconds until `key` is due; longer each time while the same is waited for."""
        before, seconds = self._patience.pop(key, (None, 0.0))
        if not isinstance(wish, Backoff):
            return wish
        seconds = min(wish.longest, seconds * GROWTH) if before == wish else wish.first
        self._patience[key] = (wish, seconds)
        return seconds

    def _retry_after(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 16))
        return min(LONGEST_RETRY, seconds * (1 + self._jitter() / 4))

    def _unplan(self, key: Key) -> None:
        planned = self._planned.pop(key, None)
        if planned:
            planned.timer.cancel()


def _words(key: Key) -> dict[str, str]:
    return {"kind": key.kind.value, "namespace": key.namespace, "name": key.name}
