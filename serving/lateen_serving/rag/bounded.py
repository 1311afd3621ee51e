# SPDX-License-Identifier: Apache-2.0
"""Works on many items, a few at a time. Used by `sync.py`."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Call `work` with every item, `at_once` at a time; the first error ends the rest and is raised as it is."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures


class Turns:
    """Lets works that were begun in order, with numbers from 0, do a part of them in that order."""

    def __init__(self) -> None:
        self._ended: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def wait(self, number: int) -> None:
        """Until the one before has had its turn."""
        if number:
            await self._ended[number - 1].wait()
            del self._ended[number - 1]

    def done(self, number: int) -> None:
        """The turn of `number` is over."""
        self._ended[number].set()
