# SPDX-License-Identifier: Apache-2.0
"""Leader election between candidates that share a Lease, each with a clock of its own."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from lateen_operator.leader import Election, LeadershipLost, Lease, Terms
from lateen_operator.seams import Unavailable

TERMS = Terms("lateen-system", "lateen-operator", "me", lease_seconds=15, renew_seconds=10, retry_seconds=2)


@dataclass
class FakeLeases:
    """A Lease with the API server's optimistic locking."""

    lease: Lease | None = None
    failing: bool = False
    hanging: bool = False
    writes: int = 0
    reads: int = 0

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        self.reads += 1
        await self._obstacles()
        return self.lease

    async def write_lease(self, namespace: str, name: str, lease: Lease) -> Lease | None:
        await self._obstacles()
        if lease.version != (self.lease.version if self.lease else ""):
            return None
        self.writes += 1
        self.lease = replace(lease, version=str(self.writes))
        return self.lease

    async def _obstacles(self) -> None:
        if self.failing:
            raise Unavailable("away")
        if self.hanging:
            await asyncio.Event().wait()


class Clock:
    """Time that passes only while somebody sleeps, with something that happens then."""

    def __init__(self) -> None:
        self.now = 100.0
        self.script: dict[float, object] = {}

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in sorted(self.script):
            if when <= self.now:
                action = self.script.pop(when)
                assert callable(action)
                action()
        await asyncio.sleep(0)


def election(leases: FakeLeases, clock: Clock, terms: Terms = TERMS) -> Election:
    """A candidate on the test's clock."""
    return Election(leases, terms, clock, clock.sleep)


async def test_first_candidate_leads_at_once() -> None:
    """Without a Lease nobody waits."""
    leases, clock = FakeLeases(), Clock()
    await election(leases, clock).acquire()
    assert leases.lease is not None
    assert leases.lease.holder == "me"
    assert leases.lease.duration == 15
    assert clock.now == 100


async def test_candidate_takes_over_when_the_holder_was_silent_for_the_duration_it_promised() -> None:
    """A killed leader is replaced after its own lease duration, measured by the candidate's clock."""
    leases, clock = FakeLeases(Lease("other", 15, version="7", transitions=3)), Clock()
    leases.writes = 7
    await election(leases, clock).acquire()
    assert 115 <= clock.now <= 115 + TERMS.retry_seconds
    assert leases.lease is not None
    assert (leases.lease.holder, leases.lease.transitions) == ("me", 4)


async def test_holder_that_renews_is_left_alone() -> None:
    """Each renewal starts the wait anew."""
    leases, clock = FakeLeases(Lease("other", 15, version="1")), Clock()

    def renew() -> None:
        leases.writes += 1
        leases.lease = Lease("other", 15, version=f"r{leases.writes}")

    clock.script = {110.0: renew, 120.0: renew}
    await election(leases, clock).acquire()
    assert clock.now >= 135


async def test_released_lease_is_taken_without_waiting() -> None:
    """A graceful exit hands over in one retry."""
    leases, clock = FakeLeases(), Clock()
    first = election(leases, clock, replace(TERMS, identity="first"))
    await first.acquire()
    await first.release()
    await election(leases, clock).acquire()
    assert clock.now == 100
    assert leases.lease is not None
    assert leases.lease.holder == "me"


async def test_release_leaves_a_lease_that_another_holds() -> None:
    """Who lost the Lease must not free it."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock)
    await mine.acquire()
    leases.lease = Lease("other", 15, version="99")
    await mine.release()
    assert leases.lease.holder == "other"


async def test_holding_renews_until_another_holds_the_lease() -> None:
    """The loser says so as soon as it can know."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock)
    await mine.acquire()

    def steal() -> None:
        leases.lease = Lease("other", 15, version="99")

    clock.script = {160.0: steal}
    with pytest.raises(LeadershipLost, match="other holds"):
        await mine.hold()
    assert clock.now == 160
    assert leases.writes > 25


async def test_renewing_reads_nothing() -> None:
    """A leader nobody disputes costs one request per retry."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock)
    await mine.acquire()

    def break_down() -> None:
        leases.failing = True

    clock.script = {120.0: break_down}
    before = leases.reads
    with pytest.raises(LeadershipLost):
        await mine.hold()
    assert leases.reads == before


async def test_leader_that_cannot_renew_gives_up_before_its_lease_ends() -> None:
    """It stops after the renewal deadline, when others may not act yet."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock)
    await mine.acquire()

    def break_down() -> None:
        leases.failing = True

    clock.script = {110.0: break_down}
    with pytest.raises(LeadershipLost, match="not renewed"):
        await mine.hold()
    last_renewal = 108
    assert last_renewal + TERMS.renew_seconds <= clock.now < last_renewal + TERMS.lease_seconds


async def test_the_last_attempt_to_renew_does_not_outlast_the_lease() -> None:
    """A request that hangs near the renewal deadline is cut off there: it has not the time of a first attempt."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock)
    await mine.acquire()
    clock.script = {
        110.0: lambda: setattr(leases, "failing", True),
        117.0: lambda: (setattr(leases, "hanging", True), setattr(leases, "failing", False)),
    }
    async with asyncio.timeout(TERMS.lease_seconds - TERMS.renew_seconds):
        with pytest.raises(LeadershipLost, match="not renewed"):
            await mine.hold()
    assert clock.now == 108 + TERMS.renew_seconds


async def test_short_outage_does_not_end_leadership() -> None:
    """Failures within the deadline are only retried."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock)
    await mine.acquire()
    clock.script = {
        110.0: lambda: setattr(leases, "failing", True),
        116.0: lambda: setattr(leases, "failing", False),
        140.0: lambda: setattr(leases, "lease", Lease("other", 15, version="99")),
    }
    with pytest.raises(LeadershipLost, match="other holds"):
        await mine.hold()
    assert clock.now == 140


async def test_api_server_that_never_answers_counts_as_no_renewal() -> None:
    """A request that hangs is cut off by the renewal deadline."""
    leases, clock = FakeLeases(), Clock()
    mine = election(leases, clock, replace(TERMS, renew_seconds=0.01, retry_seconds=0.005))
    await mine.acquire()
    leases.hanging = True
    clock.script = {100.0: lambda: None}
    ticking = asyncio.create_task(_tick(clock))
    with pytest.raises(LeadershipLost, match="not renewed"):
        await mine.hold()
    ticking.cancel()


async def _tick(clock: Clock) -> None:
    while True:
        await asyncio.sleep(0)
        clock.now += 0.001
