# SPDX-License-Identifier: Apache-2.0
"""How results travel from the torch thread to a request in the event loop.

Used by `scheduler.py` and `batching.py` (sending side) and by `generator.py` and
`encoder.py` (receiving side).
"""

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """A queue for one request: filled from the torch thread, read in the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: list[T | Exception] = []
        self._ready = asyncio.Event()
        self.cancelled = False
        """Set by the reader when nobody wants the result any more; the torch thread then drops the work."""

    def cancel(self) -> None:
        """Say that nobody reads any more."""
        self.cancelled = True

    async def receive(self) -> list[T]:
        """Everything that has arrived, at least one item; raises the exception that was sent, if it is the next."""
        while not self._items:
            self._ready.clear()
            await self._ready.wait()
        if isinstance(self._items[0], Exception):
            raise self._items[0]
        values: list[T] = []
        while self._items and not isinstance(self._items[0], Exception):
            values.append(self._items.pop(0))  # type: ignore[arg-type]  # narrowed by the loop's condition
        return values

    def _put(self, item: T | Exception) -> None:
        self._items.append(item)
        self._ready.set()


def deliver(messages: Iterable[tuple[Channel[T], T | Exception]]) -> None:
    """Send items from the torch thread, waking each event loop once for all of its channels."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Channel[T], T | Exception]]] = {}
    for channel, item in messages:
        by_loop.setdefault(channel._loop, []).append((channel, item))
    for loop, batch in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put_all, batch)
        except RuntimeError:  # the loop is closed: its requests are gone
            for channel, _ in batch:
                channel.cancel()


def _put_all(batch: list[tuple[Channel[T], T | Exception]]) -> None:
    for channel, item in batch:
        channel._put(item)
