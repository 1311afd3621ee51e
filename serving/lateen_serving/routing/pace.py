# SPDX-License-Identifier: Apache-2.0
"""How long requests take on each replica, lately. Used by `response_time.py` and `balancer.py`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

MEMORY_SECONDS = 10.0
"""A measurement this old weighs 1/e of a new one, however few came in between."""

LEAST_WEIGHT = 0.1
"""Share of the average that one new measurement makes up at least, however quickly they come."""


@dataclass(frozen=True)
class Average:
    """An exponentially weighted moving average of durations."""

    seconds: float
    at: float
    """When the last measurement came."""


class Pace:
    """Average duration of the requests of each replica, weighted by how recent they are."""

    def __init__(self) -> None:
        self._averages: dict[str, Average] = {}
        self._usual: float | None = None

    def observe(self, replica: str, seconds: float, now: float) -> None:
        """A request on `replica` took `seconds`."""
        before = self._averages.get(replica)
        if before is not None:
            weight = max(LEAST_WEIGHT, 1 - math.exp(-(now - before.at) / MEMORY_SECONDS))
            seconds = before.seconds + weight * (seconds - before.seconds)
        self._averages[replica] = Average(seconds, now)
        self._usual = None

    def of(self, replica: str) -> Average | None:
        """The average of `replica`; None before its first request has ended."""
        return self._averages.get(replica)

    def usual(self) -> float | None:
        """Median of the replicas' averages in seconds, the upper one of two; None: nothing was measured yet."""
        if self._usual is None and self._averages:
            ordered = sorted(average.seconds for average in self._averages.values())
            self._usual = ordered[len(ordered) // 2]
        return self._usual

    def keep(self, replicas: Iterable[str]) -> None:
        """Forget all replicas but these."""
        kept = set(replicas)
        self._averages = {key: value for key, value in self._averages.items() if key in kept}
        self._usual = None
