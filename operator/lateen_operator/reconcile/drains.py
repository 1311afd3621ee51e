# SPDX-License-Identifier: Apache-2.0
"""How long things have been without use, so that what was in flight can arrive before they go.

The only memory of the operator. Losing it at a restart merely starts the waits again.
"""

from collections.abc import Iterable


class Drains:
    """Remembers since when names are unused."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def watch(self, unused: Iterable[str], now: float) -> None:
        """Note which names are unused at `now`; names left out are in use (or gone) and start afresh."""
        self._since = {name: self._since.get(name, now) for name in unused}

    def drained(self, now: float) -> frozenset[str]:
        """Names unused for long enough."""
        return frozenset(name for name, since in self._since.items() if now - since >= self._seconds)

    def next_due(self, now: float) -> float | None:
        """Seconds until the next name is drained; None when nothing waits."""
        waits = [self._seconds - (now - since) for since in self._since.values()]
        return max(0.05, min(waits)) if waits else None
