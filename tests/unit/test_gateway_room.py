# SPDX-License-Identifier: Apache-2.0
"""Requests that wait for models share the gateway, so that models that answer always can."""

import asyncio
import contextvars
import dataclasses
import json
from contextlib import ExitStack
from typing import Any

import pytest

from lateen_api.gateway_report import REPORT_PATH
from lateen_serving.errors import Overloaded, ReplicaLost, Unavailable
from lateen_serving.gateway import ingress
from lateen_serving.gateway.room import Room
from unit.gateway_conditions import until
from unit.gateway_fakes import TOKEN, RawExchange, World, index, model

COLD = ("c1", "c2", "c3", "c4")
ASK: dict[str, Any] = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}


def waits(room: Room, held: ExitStack, name: str, most: int = 1000) -> bool:
    """Whether one more request may wait for the model `name`; it then does until `held` is closed."""
    request = ExitStack()
    request.enter_context(room.request())
    try:
        request.enter_context(room.place(name, most))
    except Overloaded:
        request.close()
        return False
    held.push(request)
    return True


def fill(room: Room, held: ExitStack, name: str, most: int = 1000) -> int:
    """Let as many requests wait for the model `name` as may; their number."""
    while waits(room, held, name, most):
        pass
    return room.waiting(name)


def test_each_model_takes_at_most_half_of_what_is_left() -> None:
    """Of 128 places 16 are kept; the first model takes half of the others, each further one half of the rest."""
    room = Room(128)
    with ExitStack() as held:
        assert [fill(room, held, name) for name in "abcdef"] == [56, 28, 14, 7, 4, 2]
        assert room.inside == 111
    assert (room.inside, room.waiting("a")) == (0, 0)


def test_a_model_of_which_nothing_waits_always_may() -> None:
    """However many models are without replicas, another one has a place; a second request then has none."""
    room = Room(16)
    with ExitStack() as held:
        for number in range(16):
            assert fill(room, held, f"cold-{number}") >= 1
        with ExitStack() as one:
            assert waits(room, one, "ready")
            assert not waits(room, one, "ready")
        assert waits(room, held, "ready")


def test_a_models_own_bound_holds() -> None:
    """No more requests of a model wait than its spec allows."""
    room = Room(512)
    with ExitStack() as held:
        assert fill(room, held, "a", most=3) == 3
        assert waits(room, held, "a", most=4)


def test_calls_of_one_request_count_once() -> None:
    """A request with many answers waits as one, and for as long as any of them does."""
    room = Room(512)
    with room.request(), ExitStack() as calls:
        first = calls.enter_context(room.place("a", 1))
        second = calls.enter_context(room.place("a", 1))
        assert room.waiting("a") == 1
        first.leave()
        first.leave()
        assert room.waiting("a") == 1
        second.leave()
        assert (room.waiting("a"), room.inside) == (0, 1)
        second.take()
        assert room.waiting("a") == 1
    assert (room.waiting("a"), room.inside) == (0, 0)


def test_a_call_after_its_request_is_not_inside() -> None:
    """A call that outlives its request waits like others, and takes no place for ever."""
    room = Room(512)
    with room.request():
        left_over = contextvars.copy_context()

    def call() -> None:
        with room.place("a", 1):
            assert (room.waiting("a"), room.inside) == (1, 0)

    left_over.run(call)
    assert (room.waiting("a"), room.inside) == (0, 0)


async def test_calls_outside_of_requests_count_alone() -> None:
    """A call that no request surrounds is a request of its own."""
    room = Room(512)
    held = asyncio.Event()

    async def call() -> None:
        with room.place("a", 1):
            await held.wait()

    calling = asyncio.create_task(call())
    await until(lambda: room.waiting("a") == 1)
    with pytest.raises(Overloaded):
        await call()
    held.set()
    await calling
    assert (room.waiting("a"), room.inside) == (0, 0)


def with_cold(most: int) -> World:
    """A gateway with `chatty`, which answers, and models without replicas of which `most` requests each may wait."""
    world = World()
    cold = [model(name) | {"maxQueuedRequests": most} for name in COLD]
    world.accept(models=[model("chatty"), model("minilm", task="embed"), *cold])
    world.models.cold = {f"default_{name}_r1" for name in COLD}
    return world


def exchange(world: World, name: str, **more: Any) -> RawExchange:
    """A request to the model `name`."""
    return RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK | {"model": name} | more).encode())


async def test_four_models_without_replicas_leave_the_fifth_alone() -> None:
    """While 128 requests for each of four cold models arrive at once, a model that answers does."""
    world = with_cold(most=128)
    exchanges = [exchange(world, name) for name in COLD for _ in range(128)]
    running = [asyncio.create_task(each.run()) for each in exchanges]
    room = world.service.room
    await until(lambda: sum(map(room.waiting, COLD)) + sum(task.done() for task in running) == 512)
    assert [room.waiting(name) for name in COLD] == [128, 128, 96, 48]
    assert room.inside == 400
    answers = await asyncio.gather(*(world.client().chat.completions.create(**ASK) for _ in range(16)))
    assert [answer.choices[0].message.content for answer in answers] == ["Hello world"] * 16
    refused = [each.messages[0] for each, task in zip(exchanges, running, strict=True) if task.done()]
    assert {message["status"] for message in refused} == {503}
    assert all((b"retry-after", b"1") in message["headers"] for message in refused)
    for each in exchanges:
        each.leave.set()
    await asyncio.gather(*running)
    assert (room.inside, [room.waiting(name) for name in COLD]) == (0, [0, 0, 0, 0])


async def test_requests_beyond_the_gateways_places_are_refused_unread() -> None:
    """A request has its place until its stream is over; without one it is 503 whatever its body says, and so are
    questions to an index; probes, other lists and the operator's report are answered.
    """
    world = World()
    world.service = dataclasses.replace(world.service, room=Room(2))
    world.app = ingress.create(world.service)
    world.models.silent = asyncio.Event()
    exchanges = [exchange(world, "chatty", stream=streams) for streams in (True, False)]
    running = [asyncio.create_task(each.run()) for each in exchanges]
    await until(lambda: len(world.models.calls) == 2)
    async with world.http() as http:
        refused = await http.post("/v1/embeddings", content=b"not JSON")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
        for path in ("/healthz", "/readyz", "/v1/models", "/metrics"):
            assert (await http.get(path)).status_code == 200
        for path in ("/v1/vector_stores/handbook/files", "/v1/vector_stores/handbook/files/hb/a.md"):
            assert (await http.get(path)).status_code == 503
        async with world.http(key=TOKEN.get_secret_value()) as operator:
            assert (await operator.get(REPORT_PATH)).status_code == 200
        world.models.silent.set()
        await asyncio.gather(*running)
        assert [each.messages[0]["status"] for each in exchanges] == [200, 200]
        assert (await http.post("/v1/embeddings", content=b"not JSON")).status_code == 400


async def test_one_more_than_may_wait_is_refused() -> None:
    """It is told the code and when to come back, and is not held against the model."""
    world = with_cold(most=1)
    first = exchange(world, "c1", n=3)
    running = asyncio.create_task(first.run())
    await until(lambda: len(world.models.calls) == 3)
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK | {"model": "c1"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"
    assert len(world.models.calls) == 3
    traffic = world.state.traffic.traffic()["default_c1_r1"]
    assert (traffic.requests, traffic.errors) == (1, 0)
    first.leave.set()
    await running


async def test_requests_that_pause_between_tries_wait_too() -> None:
    """A request that no replica took, and that is about to try again, keeps its place."""
    world = World()
    world.models.refusals["default_chatty_r1"] = [Unavailable("starting")]
    seen: list[int] = []
    world.on_pause = lambda: seen.append(world.service.room.waiting("chatty"))
    await world.client().chat.completions.create(**ASK)
    assert seen == [1]


async def test_a_request_that_was_let_in_is_not_turned_away_later() -> None:
    """One whose replica is lost waits again, also where no further request may."""
    world = World()
    world.models.answers["default_chatty_r1"] = [[ReplicaLost("lost")]]
    world.accept(models=[model("chatty") | {"maxQueuedRequests": 1}])
    seen: list[int] = []
    world.on_pause = lambda: seen.append(world.service.room.waiting("chatty"))
    world.models.silent = asyncio.Event()
    running = asyncio.create_task(world.client().chat.completions.create(**ASK))
    await world.models.asked.wait()
    with world.service.room.place("chatty", 1):
        world.models.silent.set()
        assert (await running).choices[0].message.content == "Hello world"
    assert seen == [2]


async def test_a_request_that_is_worked_on_waits_no_longer() -> None:
    """Its place is free for the next one as soon as a replica has begun."""
    world = World()
    world.accept(models=[model("chatty") | {"maxQueuedRequests": 1}])
    world.models.silent = asyncio.Event()
    exchanges = [exchange(world, "chatty") for _ in range(3)]
    running = [asyncio.create_task(each.run()) for each in exchanges]
    await until(lambda: len(world.models.calls) == 3)
    assert (world.service.room.waiting("chatty"), world.service.room.inside) == (0, 3)
    world.models.silent.set()
    await asyncio.gather(*running)
    assert [each.messages[0]["status"] for each in exchanges] == [200] * 3


async def test_searches_wait_for_their_embedder() -> None:
    """Queries are counted with the other requests of the model that embeds them."""
    world = World()
    embedder = model("minilm", task="embed") | {"maxQueuedRequests": 1}
    world.accept(models=[embedder], indexes=[index("handbook")])
    world.models.queue = asyncio.Event()
    search = RawExchange(world.app, "/v1/vector_stores/handbook/search", b'{"query": "a"}')
    running = asyncio.create_task(search.run())
    await world.models.asked.wait()
    async with world.http() as http:
        reply = await http.post("/v1/embeddings", json={"model": "minilm", "input": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    world.models.queue.set()
    await running
    assert search.messages[0]["status"] == 200
