# SPDX-License-Identifier: Apache-2.0
"""A policy and its books. Called by `routers.py` and by the simulator that compares the strategies.

A replica that fails answers at once, has no ongoing requests and would look like the best of all. So a failed request
says nothing about durations and stays in the books for as long as requests usually take, and twice as long with each
further failure in a row; from the third one on the replica is left out for that time, unless all are. Whatever the
strategy, a failing replica is asked less and less, and never given up.
"""

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from lateen_serving.routing.ledger import Ledger
from lateen_serving.routing.pace import Pace
from lateen_serving.routing.policy import Load, Policy

SETTLE_SECONDS = 0.2
"""Word of how a request ended may come this much later than word of its end."""

FIRST_PENALTY_SECONDS = 1.0
"""How long a failed request counts where nobody knows yet how long requests take."""

_FAILURES_TO_SUSPEND = 3
_MOST_DOUBLINGS = 5


@dataclass(frozen=True)
class _Ended:
    replica: str
    request: str
    seconds: float
    ongoing: int
    at: float


class Balancer:
    """Chooses replicas for requests and is told what becomes of them. One per router; no lock: one event loop."""

    def __init__(self, policy: Policy, generator: random.Random) -> None:
        self._policy = policy
        self._generator = generator
        self._ledger = Ledger()
        self._pace = Pace()
        self._accepted: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[str] = Counter()
        self._suspended: dict[str, float] = {}
        self._ended: deque[_Ended] = deque()

    def follow(self, policy: Policy) -> None:
        """Choose by another policy from now on; the books stay, what the old one had learnt for itself goes."""
        self._policy = policy

    def rank(self, key: bytes | None, replicas: Sequence[str], now: float) -> list[str]:
        """The `replicas`, best first for a request with `key`, without those that fail, unless all do."""
        self._settle(now)
        replicas = [name for name in replicas if self._suspended.get(name, now) <= now] or replicas
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

    def accepted(self, replica: str, request: str) -> None:
        """`replica` works on `request`, or has just done so. One that it refuses says nothing about durations."""
        if self._is_open(replica, request):
            self._accepted[replica, request] += 1

    def failed(self, replica: str, request: str, now: float, *, is_to_blame: bool = True) -> None:
        """`replica` answered `request` with an error, or broke off; told once for each request.

        Where the request is to blame and not the replica, it only says nothing about durations.
        """
        if self._is_open(replica, request):
            self._failed[replica, request] += 1
        if not is_to_blame:
            return
        usual = self._pace.usual() or FIRST_PENALTY_SECONDS
        penalty = usual * 2.0 ** min(self._failures[replica], _MOST_DOUBLINGS)
        self._failures[replica] += 1
        self._ledger.linger(replica, now + penalty)
        if self._failures[replica] >= _FAILURES_TO_SUSPEND:
            self._suspended[replica] = now + penalty

    def ended(self, replica: str, request: str, now: float) -> None:
        """`request` is over on `replica`, in whatever way; nothing happens if it is not ongoing there."""
        self._settle(now)
        ongoing = self._ledger.ongoing(replica, now)
        sent = self._ledger.ended(replica, request)
        if sent is not None:
            meanwhile = round((sent.ongoing + ongoing) / 2)
            self._ended.append(_Ended(replica, request, now - sent.at, meanwhile, now))

    def reported(self, replica: str, total: int, now: float) -> None:
        """`replica` has `total` requests, from all gateways."""
        self._ledger.reported(replica, total, now)

    def keep(self, replicas: Sequence[str]) -> None:
        """Forget all replicas but these, except for their ongoing requests."""
        self._ledger.keep(replicas)
        self._pace.keep(replicas)
        self._policy.keep(replicas)
        kept = set(replicas)
        self._failures = Counter({name: count for name, count in self._failures.items() if name in kept})
        self._suspended = {name: until for name, until in self._suspended.items() if name in kept}

    def _is_open(self, replica: str, request: str) -> bool:
        """Whether word of `request` will still be looked at: a client may read an error long after the request's end."""
        return self._ledger.has(replica, request) or any(
            (ended.replica, ended.request) == (replica, request) for ended in self._ended
        )

    def _settle(self, now: float) -> None:
        """Learn from the requests that ended long enough ago for all word of them to have come."""
        while self._ended and now - self._ended[0].at >= SETTLE_SECONDS:
            ended = self._ended.popleft()
            name = (ended.replica, ended.request)
            was_accepted, has_failed = _take(self._accepted, name), _take(self._failed, name)
            if was_accepted and not has_failed:
                del self._failures[ended.replica]
                self._suspended.pop(ended.replica, None)
                self._pace.observe(ended.replica, ended.seconds, ended.at)
                self._policy.completed(ended.replica, ended.seconds, ended.ongoing, ended.at)


def _take(counts: Counter[tuple[str, str]], name: tuple[str, str]) -> bool:
    """Take one from `counts` if there is one, and say whether there was."""
    if name not in counts:
        return False
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
    return True
