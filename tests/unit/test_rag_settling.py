# SPDX-License-Identifier: Apache-2.0
"""Waiting for a vector store that indexes later."""

import itertools
from collections.abc import Iterable

import pytest

from lateen_serving.rag.protocol import BuildFailure
from lateen_serving.rag.settling import QUEUE_SECONDS, STUCK_SECONDS, settle


class Queue:
    """So many vectors wait at each look; time passes only while somebody sleeps."""

    def __init__(self, lengths: Iterable[int]) -> None:
        self._lengths = iter(lengths)
        self.now = 0.0

    async def length(self) -> int:
        return next(self._lengths)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("lengths", "looks"), [([0], 0), ([9, 4, 4, 7, 3, 0], 5)], ids=["none", "some"])
async def test_it_ends_when_none_waits(lengths: list[int], looks: int) -> None:
    """Whether the queue was empty or had to be worked off; others may add to it meanwhile."""
    queue = Queue(lengths)
    await settle(queue.length, lambda: queue.now, queue.sleep)
    assert queue.now == looks * QUEUE_SECONDS


async def test_a_queue_that_does_not_move_ends_the_build() -> None:
    """After ten minutes without progress, counted from the last progress."""
    queue = Queue(itertools.chain([9, *[9] * 1000, 5], itertools.repeat(5)))
    with pytest.raises(BuildFailure, match="none of the 5 vectors") as failure:
        await settle(queue.length, lambda: queue.now, queue.sleep)
    assert failure.value.reason == "StoreUnavailable"
    assert queue.now > 1000 * QUEUE_SECONDS + STUCK_SECONDS
