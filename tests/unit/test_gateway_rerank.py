# SPDX-License-Identifier: Apache-2.0
"""Reranking over HTTP, in the shape that Cohere and Jina share."""

from typing import Any

import pytest

from lateen_serving.errors import Unavailable
from unit.gateway_fakes import World, model

ASK: dict[str, Any] = {"model": "ranker", "query": "leave", "documents": ["ab", "abcd", {"text": "abc"}]}


async def rerank(world: World, **more: Any) -> Any:
    """The reply's document."""
    async with world.http() as http:
        reply = await http.post("/v1/rerank", json=ASK | more)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-lateen-release"].startswith("model=ranker@")
    return reply.json()


async def test_documents_come_back_best_first() -> None:
    """Results are sorted by relevance and say which document they are about; the usage is the pairs' tokens."""
    world = World()
    document = await rerank(world)
    assert world.models.ranked == [("default_ranker_r1", "leave", ["ab", "abcd", "abc"])]
    assert [result["index"] for result in document["results"]] == [1, 2, 0]
    assert document["results"][0] == {"index": 1, "relevance_score": 0.8}
    assert document["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert (document["model"], document["object"]) == ("ranker", "list")
    assert world.lines()[0]["prompt_tokens"] == 3


@pytest.mark.parametrize(("top_n", "expected"), [(2, [1, 2]), (1, [1]), (9, [1, 2, 0])])
async def test_only_the_best_ones(top_n: int, expected: list[int]) -> None:
    """`top_n` bounds the results; more than there are is all of them."""
    document = await rerank(World(), top_n=top_n)
    assert [result["index"] for result in document["results"]] == expected


async def test_documents_are_repeated_on_request() -> None:
    """`return_documents` adds each document's text."""
    document = await rerank(World(), return_documents=True)
    assert [result["document"] for result in document["results"]] == [
        {"text": "abcd"},
        {"text": "abc"},
        {"text": "ab"},
    ]


async def test_equal_scores_keep_their_order() -> None:
    """Of equally relevant documents the first named is first."""
    document = await rerank(World(), documents=["b", "a", "c"])
    assert [result["index"] for result in document["results"]] == [0, 1, 2]


async def test_a_lost_replica_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a rollout replaces the application, the newest one is asked."""
    world = World()
    world.on_pause = lambda: world.accept(models=[model("ranker", "r2", task="rerank")])
    ranking = world.models.rerank

    async def lost_at_first(application: str, query: str, documents: list[str]) -> Any:
        if application == "default_ranker_r1":
            raise Unavailable("gone")
        return await ranking(application, query, documents)

    monkeypatch.setattr(world.models, "rerank", lost_at_first)
    await rerank(world)
    assert world.models.ranked[0][0] == "default_ranker_r2"


@pytest.mark.parametrize(("name", "status"), [("chatty", 400), ("none", 404)])
async def test_other_models_are_refused(name: str, status: int) -> None:
    """A model of another task and one that isn't there are refused by name."""
    async with World().http() as http:
        reply = await http.post("/v1/rerank", json=ASK | {"model": name})
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, "model")
