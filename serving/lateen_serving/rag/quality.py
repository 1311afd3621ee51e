# SPDX-License-Identifier: Apache-2.0
"""Whether a collection holds what its ledger says and whether its searches find it. Called by `sync.py`.

Recall is measured against distances computed here, over all vectors streamed page by page: an exact search by
Weaviate itself can't be had of a collection with a graph, and would trust the index that is to be judged. Reading the
vectors once costs a few percent of embedding them, and memory for one page.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lateen_api.index_build import BuildRequest, QualityReport, Recall
from lateen_api.rag_index import Quality
from lateen_serving.rag.bounded import each
from lateen_serving.rag.protocol import BuildFailure

PAGE = 500
"""Vectors in memory at once."""

SEARCHES_AT_ONCE = 8

STANDSTILL_SECONDS = 300.0
"""Longest time in which Weaviate's queue of vectors does not become shorter."""

_ROUNDING = 1e-5
"""Relative: two vectors this much apart are equally near, as Weaviate calculates with 32 bits."""

_LAST = 1 << 128

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Page:
    """Some passages' vectors."""

    ids: Sequence[str]
    """UUIDs, in their order."""

    vectors: Sequence[Sequence[float]]
    """One each; empty for a passage without."""


class Vectors(Protocol):
    """The vectors of one collection. Implemented by `vectors.py` (Weaviate); in memory by unit tests.

    Every method retries what may heal by itself; BuildFailure(StoreUnavailable) after that.
    """

    async def queued(self) -> int:
        """Vectors that searches don't see yet because they wait to be indexed."""
        ...

    async def page(self, after: str | None, limit: int) -> Page:
        """Those with the next ids after a UUID, which need not exist; None: from the first."""
        ...

    async def nearest(self, vector: Sequence[float], limit: int) -> Page:
        """What a search finds, nearest first."""
        ...


async def check(
    vectors: Vectors,
    request: BuildRequest,
    expected: int,
    count: Callable[[], Awaitable[int]],
    *,
    has_changed: bool,
) -> QualityReport:
    """The look at a collection after it was synchronized; raises as `measure` does.

    Recall is measured before queries go to the collection. Where they do already, or nothing has changed since, the
    number of passages and the length of one vector have to do.

    Args:
        vectors: Of the collection.
        request: What is built.
        expected: Length of the embedder's vectors.
        count: Tells the number of passages.
        has_changed: Whether this synchronization changed anything.

    """
    if request.measured is None or (has_changed and not request.live):
        return await measure(vectors, request.store.distance, expected, request.quality)
    first = await vectors.page(None, 1)
    dimension = len(first.vectors[0]) if first.ids else None
    return QualityReport(
        objects=await count(), dimension=dimension, expected=expected, recall=request.measured
    )


async def measure(
    vectors: Vectors,
    distance: str,
    expected: int,
    asked: Quality,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> QualityReport:
    """The whole look: every vector is read, and the neighbours of some are searched.

    Args:
        vectors: Of the collection, which nobody changes meanwhile.
        distance: `cosine`, `dot` or `l2-squared`.
        expected: Length of the embedder's vectors.
        asked: How many samples and neighbours.
        pause: Waits so many seconds.

    Raises:
        BuildFailure: Weaviate does not answer, or does not get on with indexing the vectors.

    """
    await _indexed(vectors, pause)
    samples = await _sampled(vectors, asked.samples, expected)
    nearest = np.full((len(samples.ids), asked.k), np.inf)
    objects, dimension = 0, None
    queries = np.array(samples.vectors, dtype=np.float64)
    async for page in _pages(vectors):
        dimension = len(page.vectors[0]) if dimension is None else dimension
        good = _whole(page, expected)
        objects += len(good.ids)
        if good.ids and samples.ids:
            nearest = _merged(nearest, _between(samples, queries, good, distance))
    found, total = await _hits(vectors, samples, queries, nearest, distance)
    recall = Recall(
        value=found / total if total else 1.0,
        samples=len(samples.ids) if total else 0,
        asked=asked.samples,
        k=asked.k,
    )
    return QualityReport(objects=objects, dimension=dimension, expected=expected, recall=recall)


async def _indexed(vectors: Vectors, pause: Callable[[float], Awaitable[None]]) -> None:
    """Wait until searches see all vectors; where Weaviate indexes them while they are written, at once."""
    left, waited = await vectors.queued(), 0.0
    while left:
        if waited >= STANDSTILL_SECONDS:
            message = f"{left} vectors wait for Weaviate to index them, and it does not get on with it"
            raise BuildFailure("StoreUnavailable", message)
        await pause(1.0)
        now = await vectors.queued()
        left, waited = now, 0.0 if now < left else waited + 1.0


async def _sampled(vectors: Vectors, wanted: int, expected: int) -> Page:
    """Passages spread evenly over the ids: those are hashes, so that this is as good as chance, and the same each time."""
    found: dict[str, Sequence[float]] = {}
    starts = [None, *(_id(number * _LAST // wanted) for number in range(1, wanted))]

    async def take(start: str | None) -> None:
        page = _whole(await vectors.page(start, 1), expected)
        found.update(zip(page.ids, page.vectors, strict=True))

    await each(starts, take, SEARCHES_AT_ONCE)
    ids = sorted(found)
    return Page(ids, [found[key] for key in ids])


async def _pages(vectors: Vectors) -> AsyncIterator[Page]:
    page = await vectors.page(None, PAGE)
    while page.ids:
        yield page
        page = await vectors.page(page.ids[-1], PAGE)


def _whole(page: Page, expected: int) -> Page:
    """Those of a page whose vectors have the right length."""
    good = [item for item in zip(page.ids, page.vectors, strict=True) if len(item[1]) == expected]
    return Page([key for key, _ in good], [vector for _, vector in good])


def _between(samples: Page, queries: Matrix, page: Page, distance: str) -> Matrix:
    """Distances (samples, page); infinite between a passage and itself."""
    found = distances(queries, np.array(page.vectors, dtype=np.float64), distance)
    places = {key: column for column, key in enumerate(page.ids)}
    for row, key in enumerate(samples.ids):
        if key in places:
            found[row, places[key]] = np.inf
    return found


def distances(some: Matrix, others: Matrix, distance: str) -> Matrix:
    """Distances of each of `some` (n, d) to each of `others` (m, d), as Weaviate defines them; shape (n, m)."""
    if distance == "l2-squared":
        squares = np.square(some).sum(axis=1)[:, None] + np.square(others).sum(axis=1)[None, :]
        return np.asarray(squares - 2 * some @ others.T)
    if distance == "dot":
        return np.asarray(-(some @ others.T))
    lengths = np.linalg.norm(some, axis=1)[:, None] * np.linalg.norm(others, axis=1)[None, :]
    return np.asarray(1 - some @ others.T / np.where(lengths == 0, 1.0, lengths))


def _merged(nearest: Matrix, found: Matrix) -> Matrix:
    """The smallest distances of each row out of both, unsorted."""
    both, kept = np.hstack([nearest, found]), nearest.shape[1]
    return np.partition(both, kept - 1, axis=1)[:, :kept]


async def _hits(
    vectors: Vectors, samples: Page, queries: Matrix, nearest: Matrix, distance: str
) -> tuple[int, int]:
    """How many neighbours searches find, and how many there are; equally near ones are as good."""
    there = np.isfinite(nearest).sum(axis=1)
    hits = 0

    async def search(row: int) -> None:
        nonlocal hits
        near = await vectors.nearest(samples.vectors[row], int(there[row]) + 1)
        pairs = zip(near.ids, near.vectors, strict=True)
        others = [vector for key, vector in pairs if key != samples.ids[row]][: int(there[row])]
        if others:
            farthest = float(nearest[row][np.isfinite(nearest[row])].max())
            bound = farthest + _ROUNDING * max(1.0, abs(farthest))
            found = distances(queries[row : row + 1], np.array(others, dtype=np.float64), distance)
            hits += int((found <= bound).sum())

    await each((row for row in range(len(samples.ids)) if there[row]), search, SEARCHES_AT_ONCE)
    return hits, int(there.sum())


def _id(number: int) -> str:
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
