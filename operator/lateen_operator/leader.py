# SPDX-License-Identifier: Apache-2.0
"""Leader election: of several operators only the holder of a Lease acts. Wired by `main.py`.

    waiting --Lease free, or not renewed for its duration as seen by our own clock--> leading
    leading --renewed in time--> leading
    leading --taken by another, or not renewed for `renew_seconds`--> lost (the process must end)
    leading --process ends gracefully--> released, so that the next one need not wait

The algorithm is client-go's: clocks of different machines are never compared; what counts is how long *we*
have seen the same Lease unchanged. The client library's own election compares wall clocks, ends on a refused
connection and can't release, hence this one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from lateen_operator.seams import Unavailable

log = structlog.get_logger(__name__)


class LeadershipLost(Exception):
    """Another operator may act now: this process must stop at once."""


@dataclass(frozen=True)
class Lease:
    """A coordination.k8s.io Lease, as far as elections need it."""

    holder: str
    """Identity of the holder; empty: nobody."""

    duration: float
    """Seconds that the holder may be silent."""

    acquired: datetime | None = None
    renewed: datetime | None = None
    transitions: int = 0
    """How often the holder changed."""

    version: str = ""
    """Resource version; a write fails when the Lease has changed since. Empty: it does not exist yet."""


class Leases(Protocol):
    """Where Leases are kept."""

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        """The Lease; None when there is none. Raises Unavailable."""
        ...

    async def write_lease(self, namespace: str, name: str, lease: Lease) -> Lease | None:
        """Create or replace it; None when somebody else was faster. Raises Unavailable."""
        ...


@dataclass(frozen=True)
class Terms:
    """How an election is held; seconds as in `settings.py`."""

    namespace: str
    name: str
    identity: str
    lease_seconds: float
    renew_seconds: float
    retry_seconds: float


class Election:
    """One candidate.

    Args:
        leases: Where Leases are kept.
        terms: Who runs for what.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.

    """

    def __init__(
        self,
        leases: Leases,
        terms: Terms,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._leases = leases
        self._terms = terms
        self._clock = clock
        self._sleep = sleep
        self._seen: Lease | None = None
        self._seen_at = clock()
        self._renewed_at = clock()

    async def acquire(self) -> None:
        """Wait until this candidate leads."""
        log.info("waiting for the lease", lease=self._terms.name, identity=self._terms.identity)
        while not await self._attempt(self._terms.renew_seconds):
            await self._sleep(self._terms.retry_seconds)
        log.info("leading", lease=self._terms.name, identity=self._terms.identity)

    async def hold(self) -> None:
        """Renew for as long as that works; then raise LeadershipLost."""
        while True:
            await self._sleep(max(0.0, min(self._terms.retry_seconds, self._left())))
            # Who was held up tries once more: if nobody else has written, it is still the leader.
            if await self._attempt(max(self._left(), self._terms.retry_seconds / 2)):
                continue
            if self._seen is not None and self._seen.holder != self._terms.identity:
                raise LeadershipLost(f"{self._seen.holder or 'nobody'} holds the lease now")
            if self._left() <= 0:
                raise LeadershipLost(f"the lease was not renewed for {self._terms.renew_seconds:g} s")

    async def release(self) -> None:
        """Give the Lease up if it is still ours; what fails is left to expire."""
        if self._seen is None or self._seen.holder != self._terms.identity:
            return
        try:
            async with asyncio.timeout(self._terms.retry_seconds):
                await self._write(replace(self._seen, holder="", duration=1))
        except (Unavailable, TimeoutError) as error:
            log.warning("the lease could not be released; it expires by itself", error=str(error))
        else:
            log.info("released the lease", lease=self._terms.name)

    def _left(self) -> float:
        """Seconds until the leader must have renewed."""
        return self._renewed_at + self._terms.renew_seconds - self._clock()

    async def _attempt(self, limit: float) -> bool:
        """Try once to get or renew the Lease, for at most `limit` seconds; whether it is ours now."""
        started = self._clock()
        try:
            async with asyncio.timeout(limit):
                held = await self._take_or_renew()
        except (Unavailable, TimeoutError) as error:
            log.warning("the lease could not be read or written", error=str(error) or "timed out")
            return False
        if held:
            self._renewed_at = started
        return held

    async def _take_or_renew(self) -> bool:
        ours = self._seen is not None and self._seen.holder == self._terms.identity
        # Usually nobody has changed it since our last write, so there is nothing to read.
        if ours and self._seen and await self._write(replace(self._seen, renewed=datetime.now(UTC))):
            return True
        self._observe(await self._leases.read_lease(self._terms.namespace, self._terms.name))
        seen, now = self._seen, datetime.now(UTC)
        mine = Lease(self._terms.identity, self._terms.lease_seconds, now, now)
        if seen is None:
            return await self._write(mine)
        if seen.holder == self._terms.identity:
            return await self._write(replace(seen, duration=mine.duration, renewed=now))
        if seen.holder and self._clock() < self._seen_at + seen.duration:
            return False
        return await self._write(replace(mine, transitions=seen.transitions + 1, version=seen.version))

    def _observe(self, lease: Lease | None) -> None:
        if lease != self._seen:
            self._seen, self._seen_at = lease, self._clock()

    async def _write(self, lease: Lease) -> bool:
        written = await self._leases.write_lease(self._terms.namespace, self._terms.name, lease)
        if written is None:
            return False
        self._observe(written)
        return True
