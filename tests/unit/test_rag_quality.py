# SPDX-License-Identifier: Apache-2.0
"""Whether a collection is worth its queries: counts, lengths, recall against an exact search."""

import uuid
from collections.abc import Sequence

import numpy as np
import pytest

from lateen_api.index_build import BuildRequest, Recall
from lateen_api.rag_index import Quality
from lateen_serving.rag import quality
from lateen_serving.rag.protocol import BuildFailure
from lateen_serving.rag.quality import Page, distances

DIMENSION = 8
KNOWN = Recall(value=0.97, samples=9, asked=9, k=3)


class MemoryVectors:
    """Vectors whose searches are exact, but that some ids are never found."""

    def __init__(self, vectors: np.ndarray, distance: str = "cosine") -> None:
        ids = sorted(str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(len(vectors)))
        self.all = dict(zip(ids, vectors.tolist(), strict=True))
        self.distance = distance
        self.lost: set[str] = set()
        self.queue: list[int] = []
        self.largest_page = 0
        self.searches = 0

    async def queued(self) -> int:
        return self.queue.pop(0) if self.queue else 0

    async def page(self, after: str | None, limit: int) -> Page:
        ids = [key for key in self.all if after is None or key > after][:limit]
        self.largest_page = max(self.largest_page, len(ids))
        return Page(ids, [self.all[key] for key in ids])

    async def nearest(self, vector: Sequence[float], limit: int) -> Page:
        self.searches += 1
        ids = [key for key, it in self.all.items() if key not in self.lost and len(it) == len(vector)]
        found = distances(np.array([vector]), np.array([self.all[key] for key in ids]), self.distance)[0]
        best = [ids[place] for place in np.argsort(found, kind="stable")[:limit]]
        return Page(best, [self.all[key] for key in best])


def cloud(count: int, seed: int = 1) -> np.ndarray:
    """That many vectors."""
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


def build(**more: object) -> BuildRequest:
    """A request that says how quality is looked at."""
    document = {
        "id": "i", "namespace": "n", "collection": "C", "fingerprint": "f", "sources": [], "parsing": {}, "chunking": {},
        "store": {}, "embedderApplication": "a", "embedder": "m", "embedderRevision": "r",
    }  # fmt: skip
    return BuildRequest.model_validate(document | more)


@pytest.mark.parametrize("distance", ["cosine", "dot", "l2-squared"])
async def test_an_exact_search_has_recall_1(distance: str) -> None:
    """For every distance, over several pages of bounded size; each sample's own passage does not count."""
    vectors = MemoryVectors(cloud(1300), distance)
    found = await quality.measure(vectors, distance, DIMENSION, Quality(samples=40, k=5))
    assert (found.objects, found.dimension, found.expected) == (1300, DIMENSION, DIMENSION)
    assert found.recall == Recall(value=1.0, samples=40, asked=40, k=5)
    assert vectors.largest_page == quality.PAGE


async def test_what_searches_do_not_find_lowers_the_recall() -> None:
    """By the share of the true neighbours that are missed."""
    vectors = MemoryVectors(cloud(600))
    vectors.lost = set(list(vectors.all)[::4])
    found = await quality.measure(vectors, "cosine", DIMENSION, Quality(samples=100, k=10))
    assert found.recall is not None
    assert 0.65 < found.recall.value < 0.85
    assert found.objects == 600


async def test_equally_near_passages_are_as_good() -> None:
    """Of many passages with one text a search may find any."""
    vectors = MemoryVectors(np.repeat(cloud(3), 50, axis=0))
    vectors.lost = set(list(vectors.all)[::3])
    found = await quality.measure(vectors, "cosine", DIMENSION, Quality(samples=20, k=4))
    assert found.recall is not None
    assert found.recall.value == 1.0


@pytest.mark.parametrize("count", [0, 1])
async def test_too_few_passages_have_nothing_to_miss(count: int) -> None:
    """No sample, no search."""
    vectors = MemoryVectors(cloud(count))
    found = await quality.measure(vectors, "cosine", DIMENSION, Quality())
    assert (found.objects, found.dimension) == (count, DIMENSION if count else None)
    assert found.recall == Recall(value=1.0, samples=0, asked=100, k=10)
    assert vectors.searches == 0


async def test_fewer_passages_than_neighbours_are_all_to_be_found() -> None:
    """The share is of those that there are."""
    vectors = MemoryVectors(cloud(4))
    whole = await quality.measure(vectors, "cosine", DIMENSION, Quality())
    assert whole.recall == Recall(value=1.0, samples=len(vectors.all), asked=100, k=10)
    vectors.lost = set(list(vectors.all)[:1])
    less = await quality.measure(vectors, "cosine", DIMENSION, Quality())
    assert less.recall is not None
    assert less.recall.value == pytest.approx(9 / 12)  # three of four miss one of three


async def test_passages_without_a_right_vector_do_not_count() -> None:
    """They can't be found: the number is less than the ledger's."""
    vectors = MemoryVectors(cloud(30))
    first, *others = vectors.all
    vectors.all[first] = []
    vectors.all[others[-1]] = [1.0] * 3
    found = await quality.measure(vectors, "cosine", DIMENSION, Quality(samples=10, k=3))
    assert (found.objects, found.dimension) == (28, 0)


async def test_vectors_that_wait_to_be_indexed_are_waited_for() -> None:
    """As long as the queue becomes shorter; the failure says how many are left."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    vectors = MemoryVectors(cloud(20))
    vectors.queue = [900, 500, 500, 20]
    asked = Quality(samples=5, k=2)
    await quality.measure(vectors, "cosine", DIMENSION, asked, pause)
    assert len(pauses) == 4
    vectors.queue = [7] * 1000
    with pytest.raises(BuildFailure, match="7 vectors wait") as caught:
        await quality.measure(vectors, "cosine", DIMENSION, asked, pause)
    assert caught.value.reason == "StoreUnavailable"


@pytest.mark.parametrize(
    ("measured", "live", "has_changed", "searches"),
    [
        (None, False, True, True),
        (None, True, True, True),
        (KNOWN, False, True, True),
        (KNOWN, False, False, False),
        (KNOWN, True, True, False),
    ],
)
async def test_recall_is_measured_before_queries_come_and_not_again(
    measured: Recall | None, live: bool, has_changed: bool, searches: bool
) -> None:
    """An ordinary synchronization of a live collection looks at the count and one vector only, and keeps what is known."""
    vectors = MemoryVectors(cloud(50))

    async def count() -> int:
        return 50

    asked = build(measured=measured and measured.dump(), live=live, quality={"samples": 5, "k": 3})
    found = await quality.check(vectors, asked, DIMENSION, count, has_changed=has_changed)
    assert (found.objects, found.dimension, found.expected) == (50, DIMENSION, DIMENSION)
    assert bool(vectors.searches) is searches
    assert found.recall == (Recall(value=1.0, samples=5, asked=5, k=3) if searches else KNOWN)
    assert searches or vectors.largest_page == 1
