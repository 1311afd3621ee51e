# SPDX-License-Identifier: Apache-2.0
"""Counts how requests to each application ended, for the operator's judgement of a canary, and knows when each
revision of a prompt was last used, for its decision what to keep.

Held by `state.py`, written by `calling.py`, `generate.py` and `render.py`, read by `report.py`.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lateen_api.gateway_report import LATENCY_BOUNDS, Traffic
from lateen_serving.errors import DeadlineExceeded, InputError, Overloaded, ServiceError


def is_models_fault(error: Exception) -> bool:
    """Whether a failure speaks against the model's revision: everything but wrong requests and a full queue."""
    return not isinstance(error, InputError | Overloaded)


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
        self.errors += error is not None and is_models_fault(error)

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
