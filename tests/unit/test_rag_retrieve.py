# SPDX-License-Identifier: Apache-2.0
"""Searching indexes, as far as no Weaviate is needed."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.catalog import Index
from lateen_serving import errors
from lateen_serving.rag import retrieve
from lateen_serving.rag.passages import Search
from lateen_serving.rag.protocol import Stamp
from lateen_serving.rag.retrieve import Retriever, score
from lateen_serving.rag.store import Connection, Row
from lateen_serving.settings import ServingSettings


def index(mode: str) -> Index:
    """An index searched in `mode`."""
    return Index.model_validate(
        {"id": "handbook", "alias": "A", "collection": "C", "revision": "r", "embedder": "m", "embedderRevision": "r",
         "embedderApplication": "a",
         "retrieval": {"mode": mode}, "created": 0}
    )  # fmt: skip


def row(
    *,
    fused: bool = False,
    score: float | None = None,
    distance: float | None = None,
    certainty: float | None = None,
) -> Row:
    """A row with one measure of its match."""
    return Row({}, fused, score, distance, certainty)


_NUMBERS = st.floats(-1e6, 1e6)


@given(a=_NUMBERS, b=_NUMBERS)
def test_scores_are_within_bounds_and_keep_the_order(a: float, b: float) -> None:
    """Every measure becomes a number from 0 to 1, and a better match never scores lower."""
    for better, worse in (
        (row(score=max(a, b)), row(score=min(a, b))),
        (row(distance=min(a, b)), row(distance=max(a, b))),
        (row(certainty=max(a, b)), row(certainty=min(a, b))),
        (row(score=max(a, b), fused=True), row(score=min(a, b), fused=True)),
    ):
        assert 0 <= score(worse) <= score(better) <= 1


async def test_a_search_without_the_vector_it_needs_is_refused() -> None:
    """Only keyword search goes without a vector."""
    with pytest.raises(errors.InputError):
        await Retriever(ServingSettings()).search(index("Hybrid"), Search("q", None, 3))


async def test_an_empty_keyword_search_finds_nothing() -> None:
    """No words, no passages, no call."""
    assert await Retriever(ServingSettings()).search(index("Keyword"), Search(" \n", None, 3)) == []


@pytest.mark.parametrize("mode", ["Hybrid", "Vector", "Keyword"])
async def test_no_weaviate_is_unavailable(mode: str) -> None:
    """A refused connection is Unavailable, every time."""
    retriever = Retriever(ServingSettings(weaviate_url="http://127.0.0.1:1", weaviate_grpc_port=2))
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            await retriever.search(index(mode), Search("q", [1.0], 3))
    await retriever.aclose()


async def test_a_silent_weaviate_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that does not end in time is Unavailable."""

    async def silent(*arguments: object, **more: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Connection, "search", silent)
    monkeypatch.setattr(retrieve, "SEARCH_SECONDS", 0.01)
    with pytest.raises(errors.Unavailable):
        await Retriever(ServingSettings()).search(index("Keyword"), Search("q", None, 3))


@pytest.mark.parametrize(
    ("stamp", "matches"),
    [
        (Stamp("m", "r", 2), True),
        (Stamp("m", "r", 3), False),
        (Stamp("m", "other", 2), False),
        (Stamp("other", "r", 2), False),
        (None, False),
    ],
    ids=["same", "dimension", "revision", "model", "no stamp"],
)
async def test_vectors_of_two_embedders_are_never_compared(
    monkeypatch: pytest.MonkeyPatch, stamp: Stamp | None, *, matches: bool
) -> None:
    """A search checks whose vectors the collection holds, once per collection; Keyword mode needs no vectors."""
    read, searched = [], []

    async def held(self: Connection, collection: str) -> Stamp | None:
        read.append(collection)
        return stamp

    async def search(*arguments: object) -> list[Row]:
        searched.append(arguments)
        return []

    monkeypatch.setattr(Connection, "stamp", held)
    monkeypatch.setattr(Connection, "search", search)
    retriever = Retriever(ServingSettings())
    for _ in range(2):
        if matches:
            assert await retriever.search(index("Vector"), Search("q", [1.0, 0.0], 3)) == []
        else:
            with pytest.raises(errors.WrongVectors, match="built again"):
                await retriever.search(index("Vector"), Search("q", [1.0, 0.0], 3))
    assert len(searched) == 2 * matches
    assert len(read) == (2 if stamp is None else 1)
    assert await retriever.search(index("Keyword"), Search("q", None, 3)) == []


async def test_callers_that_come_together_connect_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent first calls share one attempt, also a failed one; the next call tries again."""
    attempts = 0
    client = object()

    async def opening(self: Connection) -> object:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0)
        if attempts == 1:
            raise errors.Unavailable("down")
        return client

    monkeypatch.setattr(Connection, "_open", opening)
    connection = Connection(ServingSettings())
    failed = await asyncio.gather(*(connection.client() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, errors.Unavailable) for outcome in failed)
    assert await asyncio.gather(*(connection.client() for _ in range(5))) == [client] * 5
    assert attempts == 2
