# SPDX-License-Identifier: Apache-2.0
"""The seam between a routing strategy and what keeps the books for it. Called by `balancer.py`.

A policy is pure: it reads no clock and draws from the generator it is given. It is told what came of its advice,
because its advice need not be followed: the first choice may be full.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Load:
    """What is known of a replica when a request has to go somewhere."""

    replica: str
    """Unique id of the replica."""

    ongoing: int
    """Requests it works on or has just been given."""

    age: float = 0.0
    """Seconds since its ongoing requests were sent, on average; 0 without any."""


class Policy(Protocol):
    """Ranks replicas. One per router; all calls come from one event loop."""

    def rank(
        self, key: bytes | None, loads: Sequence[Load], now: float, generator: random.Random
    ) -> list[str]:
        """All replicas of `loads`, best first.

        Args:
            key: Requests with the same key begin with the same text; None: nothing is known of the request.
            loads: The replicas to choose from, in any order; may be empty.
            now: Seconds of a monotonic clock.
            generator: Breaks ties.

        """
        ...

    def assigned(self, replica: str, now: float) -> None:
        """A request is about to be sent to `replica`."""
        ...

    def completed(self, replica: str, seconds: float, ongoing: int, now: float) -> None:
        """`replica` answered a request after `seconds`, while it had `ongoing` requests with this one."""
        ...

    def keep(self, replicas: Iterable[str]) -> None:
        """Forget all replicas but these."""
        ...
