# SPDX-License-Identifier: Apache-2.0
"""How texts of concurrent requests share an encoder's forward passes."""

import numpy as np
import pytest

from lateen_serving.engine.batching import Batcher, Progress, pick
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.jobs import EncodeJob, Rows, Tokens
from lateen_serving.errors import ModelError, OutOfMemory


def job(*lengths: int, first: int = 1) -> EncodeJob:
    """A request for texts of these lengths; each begins with the token `first`."""
    return EncodeJob([Tokens([first] * length) for length in lengths], Channel())


async def test_a_pass_is_filled_by_length_within_its_budget() -> None:
    """The first request leads with its longest texts; others fill the room with texts that are no longer."""
    first, second = Progress.of(job(10, 30, 20)), Progress.of(job(40, 25, 5))
    assert pick([first, second], 100) == [(first, 1), (first, 2), (first, 0)]
    first.left = [1]
    assert pick([first, second], 100) == [(first, 1), (second, 1), (second, 2)]
    assert (first.left, second.left) == ([], [0])
    assert pick([second], 10) == [(second, 0)]
    assert pick([second], 10) == []


async def test_a_suspect_shares_no_pass() -> None:
    """Behind others it waits; in front it goes alone."""
    suspect, other = Progress.of(job(3)), Progress.of(job(4))
    suspect.suspect = True
    assert pick([other, suspect], 100) == [(other, 0)]
    other.put_back([0])
    assert pick([suspect, other], 100) == [(suspect, 0)]
    assert other.left == [0]


class Choosy:
    """A model of row sums that can't stand the token 13."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        """Lengths of the texts of each pass."""

    def __call__(self, texts: list[Tokens]) -> Rows:
        self.passes.append([len(text) for text in texts])
        if any(13 in text.ids for text in texts):
            raise RuntimeError("13")
        return np.array([sum(text.ids) for text in texts], dtype=np.float32)


async def test_a_request_that_breaks_a_pass_fails_alone() -> None:
    """Those that shared the pass are read again, each by itself, and get their rows."""
    model = Choosy()
    batcher = Batcher(model, budget=100, smallest=Tokens([1]))
    good, bad, other = job(2, 5), job(3, first=13), job(3, first=2)
    for one in (good, bad, other):
        batcher.add(one)
    while batcher.step():
        pass
    assert [rows.tolist() for rows in await good.channel.receive()] == [[2, 5]]
    assert [rows.tolist() for rows in await other.channel.receive()] == [[6]]
    with pytest.raises(ModelError, match="RuntimeError"):
        await bad.channel.receive()
    assert model.passes[0] == [3, 3, 2]


async def test_a_cancelled_request_costs_no_pass() -> None:
    """What nobody waits for any more is dropped before the next pass, and others go on."""
    model = Choosy()
    batcher = Batcher(model, budget=4, smallest=Tokens([1]))
    gone, stays = job(4, 4, 4), job(4)
    batcher.add(gone)
    batcher.step()
    gone.channel.cancel()
    batcher.add(stays)
    assert not batcher.step()
    assert model.passes == [[4], [4]]
    assert [rows.tolist() for rows in await stays.channel.receive()] == [[4]]


async def test_a_long_request_is_not_starved_by_short_ones() -> None:
    """Short requests go first, but every fourth pass is led by the oldest."""
    model = Choosy()
    batcher = Batcher(model, budget=8, smallest=Tokens([1]))
    batcher.add(job(8))
    for _ in range(4):
        batcher.add(job(1, 6))
        batcher.step()
    assert model.passes == [[6], [1, 1], [6], [8]]


async def test_a_model_that_fails_at_everything_ends_the_work() -> None:
    """After a failure the smallest pass is tried; when that fails too, the thread is to end, so that Ray restarts it."""

    def broken(texts: list[Tokens]) -> Rows:
        raise RuntimeError("the device is gone")

    batcher = Batcher(broken, budget=100, smallest=Tokens([1]))
    asked = job(3)
    batcher.add(asked)
    assert batcher.step()
    with pytest.raises(ModelError, match="RuntimeError"):
        await asked.channel.receive()
    with pytest.raises(ModelError, match="smallest pass"):
        batcher.step()


async def test_too_little_memory_has_an_error_of_its_own() -> None:
    """A pass for which no memory is free is told as that."""

    def short(texts: list[Tokens]) -> Rows:
        return np.empty((2**62 // 4,), dtype=np.float32)

    batcher = Batcher(short, budget=100, smallest=Tokens([1]))
    asked = job(3)
    batcher.add(asked)
    batcher.step()
    with pytest.raises(OutOfMemory, match="these texts"):
        await asked.channel.receive()
