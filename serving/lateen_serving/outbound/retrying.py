# SPDX-License-Identifier: Apache-2.0
"""Repeats what may heal by itself, with backoff, jitter and an end. Used by every remote source."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lateen_serving.errors import LoadError

T = TypeVar("T")
_log = logging.getLogger(__name__)

ATTEMPTS = 4
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled each time."""


async def insist(
    operation: Callable[[], Awaitable[T]], pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> T:
    """The result of `operation`, repeated while it raises LoadError SourceUnavailable; all else rises at once."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await operation()
        except LoadError as error:
            if error.code != "SourceUnavailable":
                raise
            _log.warning("attempt %d of %d: %s", attempt, ATTEMPTS, error.message)
        seconds = FIRST_PAUSE * 2 ** (attempt - 1)
        await pause(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
    return await operation()
