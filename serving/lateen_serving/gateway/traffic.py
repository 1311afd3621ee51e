# SPDX-License-Identifier: Apache-2.0
"""Counts how requests to each application ended, for the operator's judgement of a canary, and knows when each
revision of a prompt was last used, for its decision what to keep.

What speaks against a revision:

- A request that failed for its client counts as an error, unless the client was wrong or a queue was full.
- A failure that its client did not see, because another replica or the other revision answered, counts as a further
  request with an error if the revision caused it: its engine failed, or a replica died while it worked on the request.
  So a revision whose replicas crash or run out of memory under requests shows, also when every answer comes in the end.
- So does a wait that was given up for the other revision while replicas of this one were serving: it is too slow.

All else that was tried again with success counts as nothing: applications that are updated, replicas that start, stop
or are not there. A planned stop is among it: Ray Serve lets a replica finish its requests, for as long as any request
may take. That replicas can't start is told by Ray's status of the application.

Held by `state.py`, written by `calling.py`, `generate.py` and `render.py`, read by `report.py`.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lateen_api.gateway_report import LATENCY_BOUNDS, Traffic
from lateen_serving.errors import (
    DeadlineExceeded,
    InputError,
    ModelError,
    Overloaded,
    ReplicaLost,
    ServiceError,
)


def is_failure(error: Exception) -> bool:
    """Whether a request that ended so has failed for its client: neither a wrong request nor a full queue."""
    return not isinstance(error, InputError | Overloaded)


def is_revisions_doing(error: Exception) -> bool:
    """Whether the revision caused a failure, so that it counts even if the client did not see it."""
    return isinstance(error, ModelError | ReplicaLost)


@dataclass
class _Count:
    since: int | None
    requests: int = 0
    errors: int = 0
    latencies: list[int] = field(default_factory=list)

    def add(self, error: ServiceError | None, seconds: float) -> None:
        self.requests += 1
        if error is None or isinstance(error, DeadlineExceeded):
            # A request that ran out of time says how slow the model is; other failures tell nothing about its speed.
            self.latencies = self.latencies or [0] * (len(LATENCY_BOUNDS) + 1)
            self.latencies[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.errors += error is not None and is_failure(error)

    def traffic(self) -> Traffic:
        return Traffic(requests=self.requests, errors=self.errors, latencies=list(self.latencies))


class Ledger:
    """One count per application of the catalog, so its size is bounded by it."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def follow(self, applications: Mapping[str, int | None]) -> None:
        """Count for these applications; one with another `since` than before begins at nothing."""
        self._counts = {name: self._kept(name, since) for name, since in applications.items()}

    def _kept(self, name: str, since: int | None) -> _Count:
        count = self._counts.get(name)
        if count is None or (since is not None and since != count.since):
            return _Count(since)
        return count

    def ended(self, application: str, error: ServiceError | None, seconds: float) -> None:
        """Count a request that was answered (`error` is None) or failed, `seconds` after it was sent: until its first
        token, or its reply without a stream. Applications that have left the catalog are not counted.
        """
        count = self._counts.get(application)
        if count is not None:
            count.add(error, seconds)

    def traffic(self) -> dict[str, Traffic]:
        """All counts, by application."""
        return {name: count.traffic() for name, count in self._counts.items()}


class PromptUses:
    """When requests last used each revision of each prompt; its size is bounded by the catalog.

    Args:
        clock: Unix time, seconds.

    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: frozenset[tuple[str, str]] = frozenset()
        self._last: dict[tuple[str, str], int] = {}

    def follow(self, revisions: Iterable[tuple[str, str]]) -> None:
        """Remember uses of these, each a prompt's id and one of its revisions, and of no others."""
        self._known = frozenset(revisions)
        self._last = {used: when for used, when in self._last.items() if used in self._known}

    def used(self, prompt: str, revision: str) -> None:
        """A request has used it just now. One that has left the catalog is not counted."""
        if (prompt, revision) in self._known:
            self._last[prompt, revision] = int(self._clock())

    def last(self) -> dict[str, dict[str, int]]:
        """Unix time, seconds, of the last use by prompt and revision."""
        found: dict[str, dict[str, int]] = {}
        for (prompt, revision), when in self._last.items():
            found.setdefault(prompt, {})[revision] = when
        return found
