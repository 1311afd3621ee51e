# SPDX-License-Identifier: Apache-2.0
"""Routing by how long each replica takes. Used by `routers.py`.

A replica's expected time is `pace * (1 + requests it would then have)`, where its pace is the moving average of
`duration / (1 + requests it had meanwhile)`. Where load is steady this is the duration measured, so that replicas with
equal durations share the load, as they should in an engine that batches; and where a replica is given more than it
has been measured with, its expected time grows in proportion, as in the "peak EWMA" of Finagle's load balancers, so
that requests do not all run to the one that looked best a moment ago. Two things keep the average honest:

- it fades towards the others' while a replica is not asked, and after `EXPLORE_SECONDS` the replica is asked once again;
- requests that are still running count with the time they have taken already, so that a stuck replica is noticed
  before its first request ends.

Failed requests have no say: failures are quick (see `balancer.py`).
"""

import math
import random
from collections.abc import Iterable, Sequence

from lateen_serving.routing.pace import Pace
from lateen_serving.routing.policy import Load
from lateen_serving.routing.turns import Turns

FADE_SECONDS = 30.0
"""A replica that was not heard of for this long has lost 1/e of its distance from the usual duration."""

EXPLORE_SECONDS = 10.0
"""A replica without a request for this long is asked again, whatever its average."""


class ResponseTime:
    """The replica from which the answer is expected soonest."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._turns = Turns()
        self._asked: dict[str, float] = {}

    def rank(
        self, key: bytes | None, loads: Sequence[Load], now: float, generator: random.Random
    ) -> list[str]:
        """See `Policy`; replicas to explore first, then those with the shortest expected time."""
        del key
        usual = self._pace.usual()
        order = sorted(
            (
                not self._is_to_explore(load, now),
                self._expected(load, usual, now),
                self._turns.of(load.replica),
                generator.random(),
                load.replica,
            )
            for load in loads
        )
        return [entry[-1] for entry in order]

    def _is_to_explore(self, load: Load, now: float) -> bool:
        asked = self._asked.get(load.replica)
        return load.ongoing == 0 and (asked is None or now - asked > EXPLORE_SECONDS)

    def _expected(self, load: Load, usual: float | None, now: float) -> float:
        """Seconds until an answer of a replica to one request more."""
        return max(self._pace_of(load.replica, usual, now) * (load.ongoing + 2), load.age)

    def _pace_of(self, replica: str, usual: float | None, now: float) -> float:
        average = self._pace.of(replica)
        if usual is None:
            return 1.0
        if average is None:
            return usual
        return usual + (average.seconds - usual) * math.exp(-(now - average.at) / FADE_SECONDS)

    def assigned(self, replica: str, now: float) -> None:
        """See `Policy`."""
        self._turns.take(replica)
        self._asked[replica] = now

    def completed(self, replica: str, seconds: float, ongoing: int, now: float) -> None:
        """See `Policy`."""
        self._pace.observe(replica, seconds / (1 + ongoing), now)

    def keep(self, replicas: Iterable[str]) -> None:
        """See `Policy`."""
        kept = set(replicas)
        self._pace.keep(kept)
        self._turns.keep(kept)
        self._asked = {replica: at for replica, at in self._asked.items() if replica in kept}
