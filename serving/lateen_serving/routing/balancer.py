# SPDX-License-Identifier: Apache-2.0
"""A policy and its books. Called by `routers.py` and by the simulator that compares the strategies.

A replica that fails answers at once, has no ongoing requests and would look like the best of all. So a request that
ended on a replica which is implausibly quick stays in the books for as long as requests usually take: whatever the
strategy, such a replica gets no more than its share.
"""

import random
from collections import Counter
from collections.abc import Sequence

from lateen_serving.routing.ledger import Ledger
from lateen_serving.routing.pace import Pace
from lateen_serving.routing.policy import Load, Policy

_UNCONFIRMED_MOST = 1024
"""Most ended requests of which it is not known yet whether they were accepted; refused ones stay until then."""


class Balancer:
    """Chooses replicas for requests and is told what becomes of them. One per router; no lock: one event loop."""

    def __init__(self, policy: Policy, generator: random.Random) -> None:
        self._policy = policy
        self._generator = generator
        self._ledger = Ledger()
        self._pace = Pace()
        self._accepted: Counter[tuple[str, str]] = Counter()
        self._unconfirmed: dict[tuple[str, str], tuple[float, float]] = {}

    def rank(self, key: bytes | None, replicas: Sequence[str], now: float) -> list[str]:
        """All `replicas`, best first for a request with `key`."""
        loads = [
            Load(replica, self._ledger.ongoing(replica, now), self._ledger.age(replica, now))
            for replica in replicas
        ]
        return self._policy.rank(key, loads, now, self._generator)

    def own(self, replica: str) -> int:
        """Requests sent to `replica` from here that have not ended."""
        return self._ledger.own(replica)

    def assign(self, replica: str, now: float) -> None:
        """A request is about to be sent to `replica`."""
        self._ledger.reserve(replica)
        self._policy.assigned(replica, now)

    def release(self, replica: str) -> None:
        """A request that was assigned to `replica` has been sent, or will not be."""
        self._ledger.release(replica)

    def sent(self, replica: str, request: str, now: float) -> None:
        """`request` has been sent to `replica`."""
        self._ledger.sent(replica, request, now)

    def accepted(self, replica: str, request: str, now: float) -> None:
        """`replica` works on `request`, or has done so: word of the end may come first."""
        ending = self._unconfirmed.pop((replica, request), None)
        if ending is None:
            self._accepted[replica, request] += 1
        else:
            self._measure(replica, *ending, now)

    def ended(self, replica: str, request: str, now: float) -> None:
        """`request` is over on `replica`, in whatever way; nothing happens if it is not ongoing there.

        Only accepted requests say how long requests take: a refusal is quick.
        """
        start = self._ledger.ended(replica, request)
        if start is None:
            return
        if self._accepted[replica, request]:
            self._accepted.subtract([(replica, request)])
            self._measure(replica, start, now - start, now)
        else:
            self._unconfirmed[replica, request] = (start, now - start)
            if len(self._unconfirmed) > _UNCONFIRMED_MOST:
                del self._unconfirmed[next(iter(self._unconfirmed))]
        if not self._accepted[replica, request]:
            del self._accepted[replica, request]

    def _measure(self, replica: str, start: float, seconds: float, now: float) -> None:
        self._pace.observe(replica, seconds, now)
        self._policy.completed(replica, seconds, now)
        usual = self._pace.usual()
        if usual is not None and self._pace.is_implausible(replica):
            self._ledger.linger(replica, start + usual)

    def reported(self, replica: str, total: int, now: float) -> None:
        """`replica` has `total` requests, from all gateways."""
        self._ledger.reported(replica, total, now)

    def keep(self, replicas: Sequence[str]) -> None:
        """Forget all replicas but these, except for their ongoing requests."""
        self._ledger.keep(replicas)
        self._pace.keep(replicas)
        self._policy.keep(replicas)
