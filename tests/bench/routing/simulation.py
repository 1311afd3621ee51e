# SPDX-License-Identifier: Apache-2.0
"""A deterministic discrete-event simulation of one gateway, its replicas and its users. Called by `scenarios.py`.

Routing is the real one (`lateen_serving.routing`): the policy, its books, and the order in which waiting requests are
served. Time is simulated, so results do not depend on the machine.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from bench.routing.engine import Replica, Running
from bench.routing.workload import Request, Workload
from lateen_serving.routing.balancer import Balancer
from lateen_serving.routing.policy import Policy
from lateen_serving.routing.prefix_aware import PrefixAware, home
from lateen_serving.routing.routers import LOOK_AHEAD


@dataclass(frozen=True)
class Outcome:
    """A request that is over."""

    replica: str
    at: float
    seconds: float
    to_first_token: float
    prompt_tokens: int
    known_tokens: int
    answer_tokens: int
    failed: bool


@dataclass(frozen=True)
class _Call:
    user: int
    request: Request
    since: float
    number: int
    home: str
    """The replica its key prefers."""


@dataclass
class Simulation:
    """Runs users against replicas until a given time."""

    policy: Policy
    replicas: Sequence[Replica]
    workload: Workload
    users: int
    pause_seconds: float
    """What a user takes on average from an answer to the next question. Without pauses the replica that has just answered would
    be the least loaded one when the next question comes, and every strategy would keep conversations together."""
    seed: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._balancer = Balancer(self.policy, Random(self.seed))  # noqa: S311 - reproducible on purpose
        self._pauses = Random(self.seed)  # noqa: S311 - reproducible on purpose
        self._by_name = {replica.name: replica for replica in self.replicas}
        self._streams: list[Iterator[Request]] = [
            self.workload(user, Random(self.seed * 100_003 + user))  # noqa: S311 - reproducible on purpose
            for user in range(self.users)
        ]
        self._events: list[tuple[float, int, str, object]] = []
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._waiting: deque[_Call] = deque()
        self._failing: dict[int, Replica] = {}
        self._calls: dict[int, tuple[_Call, int]] = {}

    def run(self, until: float) -> list[Outcome]:
        """All requests that were over before `until`, in that order."""
        for user in range(self.users):
            self._at(self._pause(), "ask", user)
        while self._events and self._events[0][0] <= until:
            now, _, kind, what = heapq.heappop(self._events)
            if kind == "ask" and isinstance(what, int):
                self._ask(what, now)
            elif kind == "step" and isinstance(what, Replica):
                self._step(what, now)
            elif kind == "fail" and isinstance(what, _Call):
                self._fail(what, now)
        return self.outcomes

    def _at(self, time: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (time, next(self._order), kind, what))

    def _ask(self, user: int, now: float) -> None:
        request = next(self._streams[user])
        preferred = home(request.key, self._by_name) if request.key else ""
        call = _Call(user, request, now, next(self._numbers), preferred)
        if not self._dispatch(call, now):
            self._waiting.append(call)

    def _dispatch(self, call: _Call, now: float) -> bool:
        """Send a request to the best replica that is not full; False if all are."""
        if all(replica.ongoing >= replica.costs.max_ongoing for replica in self.replicas):
            return False
        for name in self._balancer.rank(call.request.key, list(self._by_name), now):
            if self._by_name[name].ongoing < self._by_name[name].costs.max_ongoing:
                self._send(call, self._by_name[name], now)
                return True
        return False

    def _send(self, call: _Call, replica: Replica, now: float) -> None:
        self._balancer.assign(replica.name, now)
        self._balancer.release(replica.name)
        self._balancer.sent(replica.name, str(call.number), now)
        self._balancer.accepted(replica.name, str(call.number))
        replica.ongoing += 1
        if replica.fails:
            self._at(now + replica.costs.failure_ms / 1000, "fail", call)
            self._failing[call.number] = replica
            return
        self._calls[call.number] = (call, replica.take(call.request, call.number, now))
        self._continue(replica, now)

    def _continue(self, replica: Replica, now: float) -> None:
        seconds = None if replica.is_busy else replica.step()
        if seconds is not None:
            replica.is_busy = True
            self._at(now + seconds, "step", replica)

    def _step(self, replica: Replica, now: float) -> None:
        replica.is_busy = False
        for running in replica.finish(now):
            call, known = self._calls.pop(running.number)
            self._over(replica, call, now, running, known)
            self._at(now + self._pause(), "ask", call.user)
        self._continue(replica, now)

    def _fail(self, call: _Call, now: float) -> None:
        replica = self._failing.pop(call.number)
        self._balancer.failed(replica.name, str(call.number), now)
        self._over(replica, call, now, None, 0)
        self._at(now + self._pause(), "ask", call.user)

    def _pause(self) -> float:
        return self._pauses.expovariate(1 / self.pause_seconds)

    def _over(self, replica: Replica, call: _Call, now: float, running: Running | None, known: int) -> None:
        replica.ongoing -= 1
        self._balancer.ended(replica.name, str(call.number), now)
        first = running.first_token if running else now
        self.outcomes.append(
            Outcome(
                replica=replica.name,
                at=now,
                seconds=now - call.since,
                to_first_token=first - call.since,
                prompt_tokens=call.request.prompt_tokens,
                known_tokens=known,
                answer_tokens=call.request.answer_tokens if running else 0,
                failed=running is None,
            )
        )
        if self._waiting:
            self._send(self._next_for(replica), replica, now)

    def _next_for(self, replica: Replica) -> _Call:
        """The waiting request that gets the free replica, as `routers.py` chooses it."""
        if isinstance(self.policy, PrefixAware):
            for call in itertools.islice(self._waiting, LOOK_AHEAD):
                if call.home == replica.name:
                    self._waiting.remove(call)
                    return call
        return self._waiting.popleft()
