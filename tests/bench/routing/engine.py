# SPDX-License-Identifier: Apache-2.0
"""A simulated replica: continuous batching, chunked prefill and a prefix cache, as costs. Driven by `simulation.py`."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.routing.costs import Costs
from bench.routing.workload import Request, Segment


class PrefixCache:
    """The beginnings of texts that a replica has read; the least recently used end of one goes first."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._tokens: OrderedDict[str, int] = OrderedDict()
        self._size = 0

    def hit(self, segments: Sequence[Segment]) -> int:
        """Tokens of the text that need not be read again."""
        found = 0
        for segment in segments:
            if segment.id not in self._tokens:
                break
            found += segment.tokens
        return found - found % self._costs.block_tokens

    def add(self, segments: Sequence[Segment]) -> None:
        """The text has been read."""
        for segment in reversed(segments):
            if segment.id not in self._tokens:
                self._size += segment.tokens
            self._tokens[segment.id] = segment.tokens
            self._tokens.move_to_end(segment.id)
        while self._size > self._costs.cache_tokens:
            self._size -= self._tokens.popitem(last=False)[1]


@dataclass
class Running:
    """A request in a replica."""

    request: Request
    number: int
    sent: float
    to_read: int
    first_token: float = 0.0


@dataclass
class Replica:
    """One engine. `step` begins a step and says how long it takes; `finish` ends it and says who is done."""

    name: str
    costs: Costs
    slowdown: float = 1.0
    fails: bool = False
    ongoing: int = 0
    is_busy: bool = False
    cache: PrefixCache = field(init=False)
    _steps: int = 0
    _reading: deque[Running] = field(default_factory=deque)
    _read: list[Running] = field(default_factory=list)
    _writing: list[tuple[int, int, Running]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = PrefixCache(self.costs)

    def take(self, request: Request, number: int, now: float) -> int:
        """Begin to work on `request`; returns how many tokens of its prompt are known already."""
        known = min(self.cache.hit(request.segments), request.prompt_tokens - 1)
        self._reading.append(Running(request, number, now, request.prompt_tokens - known))
        return known

    def step(self) -> float | None:
        """Begin a step; returns its duration in seconds, None if there is nothing to do."""
        if not self._reading and not self._writing:
            return None
        budget = self.costs.prefill_tokens_per_step
        while self._reading and budget:
            first = self._reading[0]
            part = min(budget, first.to_read)
            first.to_read -= part
            budget -= part
            if not first.to_read:
                self._read.append(self._reading.popleft())
        tokens = self.costs.prefill_tokens_per_step - budget
        milliseconds = (
            self.costs.step_ms
            + self.costs.row_ms * len(self._writing)
            + self.costs.prefill_ms_per_token * tokens
        )
        return self.slowdown * milliseconds / 1000

    def finish(self, now: float) -> list[Running]:
        """End the step; returns the requests whose last token it made."""
        self._steps += 1
        for running in self._read:
            running.first_token = now
            self.cache.add(running.request.segments)
            heapq.heappush(
                self._writing, (self._steps + running.request.answer_tokens - 1, running.number, running)
            )
        self._read.clear()
        done = []
        while self._writing and self._writing[0][0] <= self._steps:
            running = heapq.heappop(self._writing)[2]
            self.cache.add(running.request.with_answer())
            done.append(running)
        return done
