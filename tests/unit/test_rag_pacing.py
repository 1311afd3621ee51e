# SPDX-License-Identifier: Apache-2.0
"""How a build gives way to queries: the rule, and that it is kept to."""

import asyncio
from collections.abc import Sequence

import pytest

from lateen_serving.engine.app import Clients
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.rag.pacing import CALLS, TEXTS, Pace, Paced, after
from unit.rag_fakes import WordEmbedder

FULL = Pace(TEXTS, CALLS)


@pytest.mark.parametrize(
    ("pace", "texts", "seconds", "is_busy", "expected"),
    [
        (Pace(), 1, 0.03, False, Pace(2, 1)),
        (Pace(20, 1), 20, 0.6, False, Pace(TEXTS, 1)),
        (Pace(TEXTS, 1), TEXTS, 1.0, False, Pace(TEXTS, 2)),
        (FULL, TEXTS, 4.0, False, FULL),
        (Pace(1, 1, 0.4), 1, 0.2, False, Pace(2, 1)),
        (FULL, TEXTS, 0.8, True, Pace(2, 1, 1.6)),
        (FULL, TEXTS, 4.0, True, Pace(1, 1, 2.0)),
        (Pace(), 1, 0.04, True, Pace(1, 1, 0.08)),
        (FULL, TEXTS, 0.01, True, Pace(TEXTS, 1, 0.02)),
        (Pace(), 1, 0.0, True, Pace(TEXTS, 1, 0.0)),
    ],
    ids=[
        "twice as many", "never more than fit", "then more calls", "full speed stays", "no rest when alone",
        "as many as fit into 50 ms", "one at least, a bounded rest", "a slow embedder", "a fast embedder gives up little",
        "a clock that stands still",
    ],
)  # fmt: skip
def test_the_pace_follows_who_else_asks(
    pace: Pace, texts: int, seconds: float, is_busy: bool, expected: Pace
) -> None:
    """Full speed comes step by step while nobody else asks, and is given up at once when somebody does."""
    found = after(pace, texts, seconds, is_busy=is_busy)
    assert (found.texts, found.calls) == (expected.texts, expected.calls)
    assert found.rest == pytest.approx(expected.rest)


class Shared(WordEmbedder):
    """An embedder with a clock, which clients use until the given time."""

    def __init__(self, busy_until: float = 0.0) -> None:
        super().__init__()
        self.now = 0.0
        self.busy_until = busy_until
        self.calls: list[tuple[float, int]] = []
        self.running = self.peak = 0
        self.rested = 0.0

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        self.calls.append((self.now, len(texts)))
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        self.now += 0.02 * len(texts)
        return {**await super().embed(texts), "busy": self.now < self.busy_until}

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.rested += seconds
        await asyncio.sleep(0)


async def embed_all(shared: Shared, count: int) -> None:
    """Embed so many texts in batches that run into each other, and check that each text has its own vector."""
    paced = Paced(shared, lambda: shared.now, shared.sleep)
    texts = [f"w{number}" for number in range(count)]
    batches = [texts[start : start + TEXTS] for start in range(0, count, TEXTS)]
    found = await asyncio.gather(*(paced.embed(batch) for batch in batches))
    for batch, vectors in zip(batches, found, strict=True):
        expected = await WordEmbedder().embed(batch)
        assert (vectors["vectors"] == expected["vectors"]).all()
        assert vectors["tokens"] == expected["tokens"]


async def test_alone_a_build_reaches_full_speed() -> None:
    """After a few small calls whole batches, several at a time, and never more of them than are allowed."""
    shared = Shared()
    await embed_all(shared, 30 * TEXTS)
    assert shared.peak == CALLS
    assert shared.rested == 0
    assert sum(size < TEXTS for _, size in shared.calls) <= 2 * CALLS


async def test_beside_queries_a_build_sends_little_and_rests() -> None:
    """One call at a time, of no more than a query can wait for, and two thirds of the time for others; then it speeds up."""
    shared = Shared(busy_until=20.0)
    await embed_all(shared, 30 * TEXTS)
    beside = [size for at, size in shared.calls if at < 20.0]
    assert max(beside) <= 2
    assert shared.rested == pytest.approx(2 / 3 * 20.0, rel=0.1)
    assert shared.calls[-1][1] == TEXTS


async def test_a_call_that_fails_lets_the_next_one_in() -> None:
    """An embedder that comes back finds the build as it was."""

    class Failing(Shared):
        async def embed(self, texts: Sequence[str]) -> Embeddings:
            if not self.calls:
                self.calls.append((0.0, 0))
                raise OSError("away")
            return await super().embed(texts)

    shared = Failing()
    paced = Paced(shared, lambda: shared.now, shared.sleep)
    with pytest.raises(OSError, match="away"):
        await paced.embed(["a"])
    assert (await paced.embed(["a", "b"]))["vectors"].shape[0] == 2


def test_clients_are_noticed_while_they_wait_and_after() -> None:
    """A request counts while it is worked on, and from its end on for who asks about the time before."""
    clients = Clients()
    assert not clients.asked_since(0.0)
    with clients.asking():
        assert clients.asked_since(float("inf"))
    assert clients.asked_since(0.0)
    assert not clients.asked_since(float("inf"))
