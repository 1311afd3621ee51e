# SPDX-License-Identifier: Apache-2.0
"""Waits until what was written can be found. Used by `store.py`.

With ASYNC_INDEXING, which `vectorIndex: dynamic` needs, Weaviate queues vectors and puts them into the index later; without
it the queue is always empty.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from lateen_serving.rag.protocol import BuildFailure

QUEUE_SECONDS = 0.25
"""Between looks at the queue."""

STUCK_SECONDS = 600.0
"""Longest time in which no vector leaves it."""


async def settle(
    queued: Callable[[], Awaitable[int]],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Return when `queued`, the number of vectors that wait, is 0; BuildFailure(StoreUnavailable) when it stays as it is."""
    least, since = await queued(), now()
    while least > 0:
        await sleep(QUEUE_SECONDS)
        waiting = await queued()
        if waiting < least:
            least, since = waiting, now()
        elif now() - since > STUCK_SECONDS:
            raise BuildFailure(
                "StoreUnavailable", f"Weaviate indexes none of the {waiting} vectors that wait"
            )
