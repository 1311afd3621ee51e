# SPDX-License-Identifier: Apache-2.0
"""Repeating what may heal, and working on a few items at a time."""

import asyncio

import pytest

from lateen_serving import errors
from lateen_serving.rag.bounded import each
from lateen_serving.rag.protocol import BuildFailure
from lateen_serving.rag.retry import Patience, insist

QUICK = Patience("StoreUnavailable", attempt_seconds=0.01, total_seconds=0.05, first_pause=0.001)


async def test_what_heals_is_repeated() -> None:
    """Errors that allow it, and silence, are tried again."""
    outcomes: list[Exception | None] = [errors.Unavailable("down"), None]

    async def operation() -> str:
        if outcomes:
            outcome = outcomes.pop(0)
            if outcome is not None:
                raise outcome
            await asyncio.Event().wait()
        return "done"

    assert await insist(operation, QUICK) == "done"


@pytest.mark.parametrize(
    ("error", "reason", "several"),
    [
        (errors.Unavailable("down"), "StoreUnavailable", True),
        (errors.ServiceError("refused"), "BuildFailed", False),
    ],
)
async def test_what_does_not_heal_ends(error: errors.ServiceError, reason: str, several: bool) -> None:
    """Patience has an end; an error that forbids repeating ends at once."""
    attempts = 0

    async def operation() -> None:
        nonlocal attempts
        attempts += 1
        raise error

    with pytest.raises(BuildFailure) as failure:
        await insist(operation, QUICK)
    assert failure.value.reason == reason
    assert (attempts > 1) is several


async def test_each_keeps_to_its_bound_and_misses_nothing() -> None:
    """Never more than `at_once` at a time, every item once."""
    running, peak, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await each(range(50), work, 4)
    assert (peak, sorted(done)) == (4, list(range(50)))


async def test_each_raises_the_error_itself() -> None:
    """The caller sees the failure, not a group, and the other workers end."""
    started: list[int] = []

    async def work(item: int) -> None:
        started.append(item)
        if item == 3:
            raise BuildFailure("BuildFailed", "three")
        await asyncio.sleep(0)

    with pytest.raises(BuildFailure, match="three"):
        await each(range(1000), work, 2)
    assert len(started) < 10
