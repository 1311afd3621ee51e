# SPDX-License-Identifier: Apache-2.0
"""The clock of a request that waits for a replica."""

import asyncio

import pytest

from lateen_serving.errors import DeadlineExceeded, QueueTimeout
from lateen_serving.gateway import waiting
from lateen_serving.gateway.waiting import Wait


async def test_what_is_over_says_which() -> None:
    """Past the queue's end it is a QueueTimeout, past the deadline a DeadlineExceeded; other timeouts stay theirs."""
    now = asyncio.get_running_loop().time()
    forever = asyncio.Event()

    async def begun() -> None:
        waiting.begun()
        await forever.wait()

    async def own() -> None:
        raise TimeoutError("a library's")

    with pytest.raises(QueueTimeout):
        await Wait(0.0, now + 60, lambda _: None).attempt(forever.wait())
    with pytest.raises(DeadlineExceeded):
        await Wait(60.0, now, lambda _: None).attempt(forever.wait())
    with pytest.raises(DeadlineExceeded):
        await Wait(0.0, now, lambda _: None).attempt(begun())
    with pytest.raises(TimeoutError, match="a library's"):
        await Wait(60.0, None, lambda _: None).attempt(own())


async def test_a_wait_that_has_ended_hears_of_no_beginning() -> None:
    """A call that begins outside of any wait, or after its own has ended, is told to nobody."""
    told: list[float] = []
    wait = Wait(60.0, None, told.append)

    async def work() -> str:
        return "done"

    assert await wait.attempt(work()) == "done"
    waiting.begun()
    assert (told, wait.has_begun) == ([], False)


async def test_the_queue_clock_stands_while_a_replica_works() -> None:
    """Only time without a replica is spent from the queue timeout."""
    waits: list[float] = []
    wait = Wait(3600.0, None, waits.append)
    held = asyncio.Event()

    async def work() -> str:
        await held.wait()
        waiting.begun()
        waiting.begun()
        return "done"

    asyncio.get_running_loop().call_soon(held.set)
    assert await wait.attempt(work()) == "done"
    assert len(waits) == 1
    assert wait._left == 3600.0 - waits[0]
    assert not wait.is_over


async def test_a_reserve_is_left_for_later() -> None:
    """A wait ends when only its reserve is left, which serves another one."""
    wait = Wait(3600.0, None, lambda _: None)
    wait.reserve = 3600.0
    with pytest.raises(QueueTimeout):
        await wait.attempt(asyncio.Event().wait())
    assert wait.is_over
    wait.reserve = 0.0
    assert not wait.is_over
