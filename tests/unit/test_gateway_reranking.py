# SPDX-License-Identifier: Apache-2.0
"""The reranker of an index: what it decides, what is told while it is away, and how its canary is judged by searches."""

import asyncio
from typing import Any

import pytest

from lateen_serving.engine.protocol import Ranking
from lateen_serving.errors import ContextTooLong, InputError, ModelError
from lateen_serving.gateway import reranking, waiting
from unit.gateway_fakes import World, index, model, passage

LEAVE = passage("hb/leave.md", "28 days", 0.9, heading="Leave")
TRAVEL = passage("hb/travel.md", "Trains are booked first", 0.5)
SEARCH = "/v1/vector_stores/handbook/search"
RERANK = {"modelRef": {"name": "ranker"}, "candidates": 10}


@pytest.fixture
def world() -> World:
    """A gateway whose handbook knows about leave and travel."""
    world = World()
    world.search.passages["handbook"] = [LEAVE, TRAVEL]
    return world


def retrieving(world: World, reranker: str = "ranker", **retrieval: Any) -> None:
    """Give the handbook a reranker."""
    one = index("handbook") | {"reranker": reranker}
    one["retrieval"] |= {"rerank": RERANK} | retrieval
    world.accept(indexes=[one])


async def search(world: World, **fields: Any) -> Any:
    """The reply to a search of the handbook."""
    async with world.http() as http:
        return await http.post(SEARCH, json={"query": "how much leave", **fields})


async def everything_over() -> None:
    """Wait for whatever still goes on."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10)


def files(reply: Any) -> list[str]:
    """The documents found."""
    return [hit["filename"] for hit in reply.json()["data"]]


async def test_a_reranker_decides_the_order(world: World) -> None:
    """Its candidates are searched for, its scores are told; a request may do without."""
    retrieving(world, limit=1)
    reply = await search(world)
    assert files(reply) == ["travel.md"]
    assert reply.json()["data"][0]["score"] == pytest.approx(1 - 1 / 24)
    assert "x-lateen-retrieval" not in reply.headers
    assert world.models.ranked == [
        ("default_ranker_r1", "how much leave", ["Leave\n\n28 days", "Trains are booked first"])
    ]
    assert files(await search(world, ranking_options={"ranker": "none"})) == ["leave.md"]
    assert [wanted.limit for wanted in world.search.wanted] == [10, 1]
    assert len(world.models.ranked) == 1


@pytest.mark.parametrize("state", ["failing", "cold", "unknown", "another task", "too long a passage"])
async def test_without_its_reranker_the_search_answers_and_says_so(
    world: World, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search's own order is used, and the header tells that nothing was reranked."""
    reranker = {"unknown": "gone", "another task": "chatty"}.get(state, "ranker")
    retrieving(world, reranker)
    if state == "failing":
        world.models.refusals["default_ranker_r1"] = [ModelError("broke")]
    if state == "too long a passage":
        refused = ContextTooLong("documents[1] is too long", param="documents[1]")
        world.models.refusals["default_ranker_r1"] = [refused]
    if state == "cold":
        world.models.cold.add("default_ranker_r1")
    monkeypatch.setattr(reranking, "SECONDS", 0.05)
    reply = await search(world)
    assert files(reply) == ["leave.md", "travel.md"]
    assert reply.headers["x-lateen-retrieval"] == "not_reranked;index=handbook"


@pytest.mark.parametrize("is_cold", [True, False])
async def test_a_search_s_short_patience_is_no_failure_of_the_reranker(
    world: World, is_cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reranker that is given up after its few seconds is stopped, and not counted as an error of its revision."""
    retrieving(world)
    if is_cold:
        world.models.cold.add("default_ranker_r1")
    else:
        monkeypatch.setattr(world.models, "rerank", never)
    monkeypatch.setattr(reranking, "SECONDS", 0.05)
    reply = await search(world)
    assert reply.headers["x-lateen-retrieval"] == "not_reranked;index=handbook"
    traffic = world.state.traffic.traffic()["default_ranker_r1"]
    assert (traffic.requests, traffic.errors) == (0, 0)
    assert (world.service.room.waiting("ranker"), world.service.room.inside) == (0, 0)


@pytest.mark.parametrize(("roll", "counted"), [(0.0, (1, 1)), (0.5, (0, 0))], ids=["canary", "stable"])
async def test_a_canary_that_hangs_under_searches_is_judged(
    world: World, roll: float, counted: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on after the search to its own request timeout, and fails by that; the other revision is stopped."""
    canaried(world, timeout=1)
    world.roll = roll
    monkeypatch.setattr(world.models, "rerank", never)
    monkeypatch.setattr(reranking, "SECONDS", 0.05)
    reply = await search(world)
    assert reply.headers["x-lateen-retrieval"] == "not_reranked;index=handbook"
    assert len(world.service.left_behind) == counted[0]
    await everything_over()
    traffic = world.state.traffic.traffic()["default_ranker_r2"]
    assert (traffic.requests, traffic.errors) == counted
    assert (world.service.room.waiting("ranker"), world.service.room.inside) == (0, 0)


async def test_a_slow_canary_is_judged_by_the_time_it_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer counts as one though the search did not wait for it."""
    canaried(world)
    answer, ranks = asyncio.Event(), world.models.rerank

    async def late(*asked: Any) -> Ranking:
        await answer.wait()
        return await ranks(*asked)

    monkeypatch.setattr(world.models, "rerank", late)
    monkeypatch.setattr(reranking, "SECONDS", 0.05)
    await search(world)
    answer.set()
    await everything_over()
    traffic = world.state.traffic.traffic()["default_ranker_r2"]
    assert (traffic.requests, traffic.errors, sum(traffic.latencies)) == (1, 0, 1)


async def test_a_canary_that_answers_in_time_ranks_and_is_counted(world: World) -> None:
    """As in any request."""
    canaried(world)
    reply = await search(world)
    assert "x-lateen-retrieval" not in reply.headers
    assert [application for application, *_ in world.models.ranked] == ["default_ranker_r2"]
    assert world.state.traffic.traffic()["default_ranker_r2"].requests == 1


def canaried(world: World, timeout: int = 30) -> None:
    """Give the handbook a reranker of which a canary takes a tenth."""
    canary = {"revision": "r2", "application": "default_ranker_r2", "weight": 10, "since": 1}
    ranker = model("ranker", task="rerank", timeout=timeout) | {"canary": canary}
    one = index("handbook") | {"reranker": "ranker"}
    one["retrieval"] |= {"rerank": RERANK}
    world.accept(models=[model("minilm", task="embed"), ranker], indexes=[one])


async def never(*_: Any) -> Ranking:
    """A replica that begins and does not end."""
    waiting.begun()
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_question_that_can_not_be_ranked_is_the_caller_s(world: World) -> None:
    """What the reranker says about the request itself is a 400, not a worse answer."""
    retrieving(world)
    world.models.refusals["default_ranker_r1"] = [InputError("too long", param="query")]
    assert (await search(world)).status_code == 400
