# SPDX-License-Identifier: Apache-2.0
"""How hard a build drives the embedder that also answers queries: at full speed while nobody else asks, gently meanwhile.

An embedder computes one pass after the other, and a query waits for the pass that is under way. So while queries come, a
build sends little at a time, one call after the other, and rests after each. `after` is the rule, `Paced` keeps to it.
Used by `build.py`.

    few texts, one call --(nobody else asked: twice the texts, then one more call)--> many texts, several calls
                        <--(somebody asked)------------------------------------------
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from lateen_serving.engine.protocol import Description, Embeddings
from lateen_serving.rag.protocol import Embedder

TEXTS = 32
CALLS = 4
"""Texts per call and calls in flight at full speed: enough to keep a replica's batches full."""

CALL_SECONDS = 0.05
"""How long a call may take while somebody else asks: a query waits as long at worst."""

REST = 2.0
"""Seconds of rest for each second of such a call: two thirds of the time are left to others."""

LONGEST_REST = 2.0
"""Seconds."""


@dataclass(frozen=True)
class Pace:
    """How much is asked of the embedder at a time; the default is how a build begins."""

    texts: int = 1
    calls: int = 1
    """Calls in flight."""

    rest: float = 0.0
    """Seconds to wait after a call."""


def after(pace: Pace, texts: int, seconds: float, *, is_busy: bool) -> Pace:
    """The pace once a call with `texts` texts took `seconds`; `is_busy`: others asked the embedder meanwhile."""
    if is_busy:
        fitting = int(texts * CALL_SECONDS / max(seconds, 1e-6))
        return Pace(max(1, min(fitting, TEXTS)), 1, min(REST * seconds, LONGEST_REST))
    if pace.texts < TEXTS:
        return Pace(min(2 * pace.texts, TEXTS), pace.calls)
    return Pace(TEXTS, min(pace.calls + 1, CALLS))


class Paced:
    """An `Embedder` that keeps to a pace. Calls beyond it wait."""

    def __init__(
        self,
        embedder: Embedder,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._embedder, self._now, self._sleep = embedder, now, sleep
        self._pace = Pace()
        self._running = 0
        self._moved = asyncio.Condition()

    async def describe(self) -> Description:
        """See `protocol.Embedder`."""
        return await self._embedder.describe()

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `protocol.Embedder`."""
        return await self._embedder.tokenize(texts)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `protocol.Embedder`; as many calls as the pace asks for."""
        parts: list[Embeddings] = []
        done = 0
        while done < len(texts):
            async with self._turn():
                some = texts[done : done + self._pace.texts]
                parts.append(await self._call(some))
            done += len(some)
        return {
            "vectors": np.concatenate([part["vectors"] for part in parts]),
            "tokens": [count for part in parts for count in part["tokens"]],
        }

    async def _call(self, texts: Sequence[str]) -> Embeddings:
        started = self._now()
        found = await self._embedder.embed(texts)
        is_busy = found.get("busy", False)
        self._pace = after(self._pace, len(texts), self._now() - started, is_busy=is_busy)
        if self._pace.rest:
            await self._sleep(self._pace.rest)
        return found

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the calls in flight."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._running < self._pace.calls)
            self._running += 1
        try:
            yield
        finally:
            async with self._moved:
                self._running -= 1
                self._moved.notify_all()
