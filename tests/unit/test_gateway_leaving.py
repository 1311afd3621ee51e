# SPDX-License-Identifier: Apache-2.0
"""Request timeouts and clients that go away, at every endpoint that works: what runs for them is stopped."""

import asyncio
import json
from typing import Any, cast

import pytest
from starlette.requests import Request

from lateen_serving.gateway import disconnect, vector_stores
from unit.gateway_fakes import RawExchange, World, model

SEARCH: dict[str, Any] = {
    "model": "chatty",
    "input": "Hi",
    "tools": [{"type": "file_search", "vector_store_ids": ["handbook"]}],
}
MODELS = ("chatty", "generate"), ("minilm", "embed"), ("ranker", "rerank")
WORK = pytest.mark.parametrize(
    ("path", "body", "stopped"),
    [
        ("/v1/embeddings", {"model": "minilm", "input": "a"}, "default_minilm_r1"),
        ("/v1/rerank", {"model": "ranker", "query": "a", "documents": ["b"]}, "default_ranker_r1"),
        ("/v1/completions", {"model": "chatty", "prompt": "a"}, "default_chatty_r1"),
        ("/v1/completions", {"model": "chatty", "prompt": "a", "stream": True}, "default_chatty_r1"),
        ("/v1/responses", {"model": "chatty", "input": "a"}, "default_chatty_r1"),
        ("/v1/responses", SEARCH, "default_minilm_r1"),
        ("/v1/responses", SEARCH, "handbook"),
        ("/v1/responses", SEARCH | {"stream": True}, "handbook"),
        ("/v1/vector_stores/handbook/search", {"query": "a"}, "default_minilm_r1"),
        ("/v1/vector_stores/handbook/search", {"query": "a"}, "handbook"),
    ],
)


def silent(timeout: int, where: str) -> World:
    """A gateway whose models have so many seconds, and of which the models or the search (`handbook`) say nothing."""
    world = World()
    world.accept(models=[model(name, task=task, timeout=timeout) for name, task in MODELS])
    place = world.search if where == "handbook" else world.models
    place.silent = asyncio.Event()
    return world


def closed(world: World, where: str) -> list[str]:
    """What is over, of the search or of the models."""
    return world.search.closed if where == "handbook" else world.models.closed


@WORK
async def test_work_ends_at_the_request_timeout(
    path: str, body: dict[str, Any], stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes longer than it may is a 504, is stopped, and nothing is begun after it."""
    monkeypatch.setattr(vector_stores, "_SECONDS", 0.0)
    world = silent(0, stopped)
    async with world.http() as http:
        reply = await http.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
    assert closed(world, stopped) == [stopped]
    assert stopped == "default_chatty_r1" or not world.models.calls


@WORK
async def test_work_ends_when_its_client_leaves(path: str, body: dict[str, Any], stopped: str) -> None:
    """A client that goes away stops what runs for it, before its request is logged as ended."""
    world = silent(30, stopped)
    exchange = RawExchange(world.app, path, json.dumps(body).encode())
    running = asyncio.create_task(exchange.run())
    await (world.search if stopped == "handbook" else world.models).asked.wait()
    assert not closed(world, stopped)
    exchange.leave.set()
    await running
    assert closed(world, stopped) == [stopped]
    assert stopped == "default_chatty_r1" or not world.models.calls
    assert [line["status"] for line in world.lines()] == [499]


FILES = "/v1/vector_stores/handbook/files"


@pytest.mark.parametrize("path", [FILES, f"{FILES}/hb/leave.md"])
async def test_a_list_ends_when_its_client_leaves(path: str) -> None:
    """The question to the index is stopped, and the request is no failure of the gateway."""
    world = silent(30, "handbook")
    exchange = RawExchange(world.app, path, b"", method="GET")
    running = asyncio.create_task(exchange.run())
    await world.search.asked.wait()
    exchange.leave.set()
    await running
    assert world.search.closed == ["handbook"]
    assert [(line["status"], line["failure"]) for line in world.lines()] == [(499, None)]


class Leaving:
    """A request whose client goes away at once."""

    async def receive(self) -> dict[str, str]:
        return {"type": "http.disconnect"}


async def test_work_that_ends_as_its_client_leaves_is_handed_over() -> None:
    """What holds a replica, such as a stream that has begun, would go on unseen if nobody had it to close it."""

    async def work() -> str:
        await asyncio.sleep(0)  # the client leaves meanwhile, and the work is done before that is seen
        return "done"

    assert await disconnect.guard(cast("Request", Leaving()), work()) == "done"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
