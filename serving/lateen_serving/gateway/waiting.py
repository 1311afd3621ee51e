# SPDX-License-Identifier: Apache-2.0
"""How long a request waits until a replica begins to work on it. Used by `calling.py`.

That a replica has taken a call is seen by `handles.py` only, several calls below the one that bounds the wait, so it is
passed on by a context variable: each request has its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from lateen_serving.errors import DeadlineExceeded, QueueTimeout

ResultT = TypeVar("ResultT")

_on_begun: ContextVar[Callable[[], None]] = ContextVar("on_begun")


def begun() -> None:
    """Say that a replica has begun to work on this request. Without a wait around it, nothing happens."""
    tell = _on_begun.get(None)
    if tell is not None:
        tell()


async def within(deadline: float | None, work: Awaitable[ResultT]) -> ResultT:
    """The result of `work`; raises DeadlineExceeded when the loop's clock passes `deadline`."""
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _too_late() from error


class Wait:
    """The seconds that one request may spend waiting, over all its tries; they stand still while a replica works.

    Attributes:
        has_begun: Whether a replica had begun to work in the latest try.
        reserve: Seconds that the tries leave for later.

    """

    def __init__(self, seconds: float, deadline: float | None, waited: Callable[[float], None]) -> None:
        self.has_begun = False
        self.reserve = 0.0
        self._left = seconds
        self._deadline = deadline
        self._waited = waited
        self._clock = asyncio.get_running_loop().time

    @property
    def is_over(self) -> bool:
        """Whether nothing but the reserve is left."""
        return self._left <= self.reserve

    async def attempt(self, work: Awaitable[ResultT]) -> ResultT:
        """The result of `work`.

        Raises:
            QueueTimeout: No replica began before only the reserve was left.
            DeadlineExceeded: The request's deadline has passed.

        """
        self.has_begun = False
        started = self._clock()

        def begin() -> None:
            if not self.has_begun:
                self.has_begun = True
                self._waited(self._spend(started))
                if not limit.expired():
                    limit.reschedule(self._deadline)

        token = _on_begun.set(begin)
        try:
            async with asyncio.timeout_at(self._limit(started)) as limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise (_too_late() if self._is_late() else too_long()) from error
        finally:
            _on_begun.reset(token)
            if not self.has_begun:
                self._spend(started)

    async def pause(self, pausing: Awaitable[None]) -> None:
        """Spend time between two tries."""
        started = self._clock()
        try:
            await within(self._deadline, pausing)
        finally:
            self._spend(started)

    def _spend(self, since: float) -> float:
        seconds = self._clock() - since
        self._left -= seconds
        return seconds

    def _limit(self, started: float) -> float:
        ends = started + self._left - self.reserve
        return ends if self._deadline is None else min(ends, self._deadline)

    def _is_late(self) -> bool:
        return self.has_begun or (self._deadline is not None and self._clock() >= self._deadline)


def too_long() -> QueueTimeout:
    """The error of a wait that is over."""
    return QueueTimeout("No replica of the model was free within its queue timeout. Try again later.")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The request was not done within the model's request timeout.")
