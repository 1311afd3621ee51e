# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: the policies that look at no request. Used by `routers.py`; `Turns` by the other policies too."""

import itertools
import random
from collections.abc import Iterable, Sequence

from lateen_serving.routing.policy import Load


class Turns:
    """Remembers the order in which replicas were given requests."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._last: dict[str, int] = {}

    def of(self, replica: str) -> int:
        """Number of the turn that `replica` had last; 0: none yet."""
        return self._last.get(replica, 0)

    def take(self, replica: str) -> None:
        """`replica` is given a request."""
        self._last[replica] = next(self._count)

    def keep(self, replicas: Iterable[str]) -> None:
        """Forget all replicas but these."""
        kept = set(replicas)
        self._last = {replica: turn for replica, turn in self._last.items() if replica in kept}


class RoundRobin:
    """One after the other: the replica that has waited longest for a request is next.

    A new replica comes first once and then joins the round, so that replicas may come and go without a skipped turn.
    """

    def __init__(self) -> None:
        self._turns = Turns()

    def rank(
        self, key: bytes | None, loads: Sequence[Load], now: float, generator: random.Random
    ) -> list[str]:
        """See `Policy`; whose last turn is longest ago is first."""
        del key, now
        order = sorted((self._turns.of(load.replica), generator.random(), load.replica) for load in loads)
        return [replica for _, _, replica in order]

    def assigned(self, replica: str, now: float) -> None:
        """See `Policy`."""
        del now
        self._turns.take(replica)

    def completed(self, replica: str, seconds: float, ongoing: int, now: float) -> None:
        """See `Policy`; durations don't matter."""

    def keep(self, replicas: Iterable[str]) -> None:
        """See `Policy`."""
        self._turns.keep(replicas)


class LeastLoaded:
    """The replica with the fewest ongoing requests; among equals the one whose last turn is longest ago."""

    def __init__(self) -> None:
        self._turns = Turns()

    def rank(
        self, key: bytes | None, loads: Sequence[Load], now: float, generator: random.Random
    ) -> list[str]:
        """See `Policy`; fewest ongoing requests first."""
        del key, now
        order = sorted(
            (load.ongoing, self._turns.of(load.replica), generator.random(), load.replica) for load in loads
        )
        return [replica for _, _, _, replica in order]

    def assigned(self, replica: str, now: float) -> None:
        """See `Policy`."""
        del now
        self._turns.take(replica)

    def completed(self, replica: str, seconds: float, ongoing: int, now: float) -> None:
        """See `Policy`; durations don't matter."""

    def keep(self, replicas: Iterable[str]) -> None:
        """See `Policy`."""
        self._turns.keep(replicas)
