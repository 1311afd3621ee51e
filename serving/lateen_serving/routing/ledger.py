# SPDX-License-Identifier: Apache-2.0
"""How many requests each replica has. Used by `balancer.py`.

A request is entered when it is sent and struck out when it ends, each time by name, so that no order of events and no
event told twice can make a count wrong. What other gateways sent is known from what replicas report, and is forgotten
soon. A replica that leaves keeps its entries until they end: it may come back.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

OTHERS_SECONDS = 5.0
"""How long a replica's report of others' requests is believed."""

LINGERING_MOST = 1024
"""Most ended requests of a replica that still count."""


@dataclass(frozen=True)
class Sent:
    """A request that was sent."""

    at: float
    ongoing: int
    """Requests that the replica had then, with this one."""


class Ledger:
    """The requests of one router. All calls come from one event loop."""

    def __init__(self) -> None:
        self._sent: defaultdict[str, dict[str, deque[Sent]]] = defaultdict(dict)
        self._counts: Counter[str] = Counter()
        self._starts: defaultdict[str, float] = defaultdict(float)
        self._reserved: Counter[str] = Counter()
        self._others: dict[str, tuple[int, float]] = {}
        self._lingering: dict[str, deque[float]] = {}

    def reserve(self, replica: str) -> None:
        """A request is about to be sent to `replica`."""
        self._reserved[replica] += 1

    def release(self, replica: str) -> None:
        """It has been sent, or will not be."""
        self._reserved[replica] -= 1
        if self._reserved[replica] <= 0:
            del self._reserved[replica]

    def sent(self, replica: str, request: str, now: float) -> None:
        """`request` has been sent to `replica`. The same name may be sent several times."""
        self._counts[replica] += 1
        self._sent[replica].setdefault(request, deque()).append(Sent(now, self.ongoing(replica, now)))
        self._starts[replica] += now

    def has(self, replica: str, request: str) -> bool:
        """Whether `request` is ongoing on `replica`."""
        return bool(self._sent.get(replica, {}).get(request))

    def ended(self, replica: str, request: str) -> Sent | None:
        """Strike out `request` and return what is known of it; None if it was not sent, or has ended already."""
        requests = self._sent.get(replica, {})
        entries = requests.get(request)
        if not entries:
            return None
        sent = entries.popleft()
        if not entries:
            del requests[request]
        self._counts[replica] -= 1
        self._starts[replica] -= sent.at
        if not self._counts[replica]:
            # Also ends the rounding errors of many additions.
            del self._sent[replica], self._counts[replica], self._starts[replica]
        return sent

    def reported(self, replica: str, total: int, now: float) -> None:
        """`replica` says that it has `total` requests, from all gateways."""
        self._others[replica] = (max(0, total - self._counts[replica]), now)

    def linger(self, replica: str, until: float) -> None:
        """Count a request that has ended as ongoing until `until`."""
        self._lingering.setdefault(replica, deque(maxlen=LINGERING_MOST)).append(until)

    def own(self, replica: str) -> int:
        """Requests that this router has sent to `replica` and that have not ended."""
        return self._counts[replica]

    def ongoing(self, replica: str, now: float) -> int:
        """Requests of `replica`, from all gateways, with those about to be sent and those that linger."""
        others, at = self._others.get(replica, (0, now))
        if now - at > OTHERS_SECONDS:
            others = 0
        return self._counts[replica] + self._reserved[replica] + others + self._lingers(replica, now)

    def age(self, replica: str, now: float) -> float:
        """Seconds since this router's ongoing requests of `replica` were sent, on average; 0 without any."""
        count = self._counts[replica]
        return max(0.0, now - self._starts[replica] / count) if count else 0.0

    def keep(self, replicas: Iterable[str]) -> None:
        """Forget what is not needed of all replicas but these."""
        kept = set(replicas)
        self._others = {replica: value for replica, value in self._others.items() if replica in kept}
        self._lingering = {replica: value for replica, value in self._lingering.items() if replica in kept}

    def _lingers(self, replica: str, now: float) -> int:
        waiting = self._lingering.get(replica)
        if not waiting:
            return 0
        while waiting and waiting[0] <= now:
            waiting.popleft()
        return len(waiting)
