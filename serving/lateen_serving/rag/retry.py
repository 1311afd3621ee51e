# SPDX-License-Identifier: Apache-2.0
"""Repeats what may heal by itself, with backoff, jitter and an end. Used by `store.py` and `embedder.py`."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from lateen_serving import errors
from lateen_serving.rag.protocol import BuildFailure, FailureReason

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to insist."""

    reason: FailureReason
    """Reason of the BuildFailure at the end."""

    attempt_seconds: float
    """Longest time of one attempt."""

    total_seconds: float
    """After this time since the first attempt no further one starts."""

    first_pause: float = 0.25
    """Seconds before the second attempt; doubled each time."""

    longest_pause: float = 8.0
    """Seconds."""


async def insist(operation: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """The result of `operation`, repeated while it raises an error that allows it or takes too long.

    Raises BuildFailure with `patience.reason` when time is up, with BuildFailed when repeating can't help.
    """
    end = time.monotonic() + patience.total_seconds
    pause = patience.first_pause
    while True:
        try:
            async with asyncio.timeout(patience.attempt_seconds):
                return await operation()
        except TimeoutError as error:
            reason = f"no answer within {patience.attempt_seconds:g} s"
            cause: Exception = error
        except errors.ServiceError as error:
            if not error.retry_allowed:
                raise BuildFailure("BuildFailed", error.message) from error
            reason, cause = error.message, error
        if time.monotonic() + pause > end:
            raise BuildFailure(patience.reason, reason) from cause
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
        pause = min(pause * 2, patience.longest_pause)
