# SPDX-License-Identifier: Apache-2.0
"""Kubernetes Events without a flood: one object per message, repeats are counted; used by `cluster.py`.

An Event's name follows from what it says about whom, so that a restarted operator counts up the Event that it
posted before instead of posting another.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lateen_operator import manifests
from lateen_operator.seams import Event, Resource

SERIES_SECONDS = 60.0
"""An Event that repeats is written again at most this often."""

MAX_REMEMBERED = 1000


@dataclass(frozen=True)
class _Posted:
    times: int
    written: float
    """Clock at the last write."""


class EventLog:
    """Remembers what was posted lately, so that repeats cost nothing.

    Args:
        clock: Monotonic seconds.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._posted: OrderedDict[tuple[str, str], _Posted] = OrderedDict()

    def due(self, about: Resource, event: Event) -> int:
        """Count one more time; how often it happened if that is to be written now, else 0."""
        name = _name(about, event)
        known = self._posted.pop(name, None)
        times = known.times + 1 if known else 1
        self._posted[name] = _Posted(times, known.written if known else self._clock())
        while len(self._posted) > MAX_REMEMBERED:
            self._posted.popitem(last=False)
        if known and self._clock() - known.written < SERIES_SECONDS:
            return 0
        return times

    def written(self, about: Resource, event: Event, times: int) -> None:
        """Note that the API server knows of `times` times."""
        self._posted[_name(about, event)] = _Posted(times, self._clock())

    def failed(self, about: Resource, event: Event) -> None:
        """Forget an Event that could not be written: the next time is due at once."""
        self._posted.pop(_name(about, event), None)


def _name(about: Resource, event: Event) -> tuple[str, str]:
    return about.key.namespace, manifests.event_name(about, event)
