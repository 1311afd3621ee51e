# SPDX-License-Identifier: Apache-2.0
"""Picking a revision, waiting for a replica, trying again: what a request lives through before its first token."""

import asyncio
import json
import random
from typing import Any

import openai
import pytest

from lateen_api.gateway_report import Facts
from lateen_serving.errors import ContextTooLong, Overloaded, ReplicaLost, Unavailable
from lateen_serving.facts import Record
from lateen_serving.gateway import calling
from lateen_serving.gateway.replicas import KEPT_SECONDS
from unit.gateway_fakes import RawExchange, World, events, index, model

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
CANARY = {"revision": "r2", "application": "default_chatty_r2", "weight": 10, "since": 5}
LOAD = Facts(
    parameters=1,
    context_tokens=1,
    dtype="float32",
    memory_bytes=1,
    load_seconds=6.2,
    engine="transformers",
    engine_reason="asked for",
)


@pytest.fixture
def world() -> World:
    """A fresh gateway whose models have replicas."""
    world = World()
    world.cluster.serving = {"default_chatty_r1": 1, "default_minilm_r1": 1}
    return world


def with_canary(world: World, queue: int = 30, **changes: Any) -> None:
    """Give the model a canary, and send requests to it."""
    chatty = model("chatty") | {"canary": CANARY | changes, "queueTimeoutSeconds": queue}
    world.accept(models=[chatty, model("minilm", task="embed")])
    world.roll = 0.0


def applications(world: World) -> list[str]:
    """What was called, by revision."""
    return [application.removeprefix("default_chatty_") for application, _ in world.models.calls]


def lost(times: int) -> list[list[Any]]:
    """Answers that break before their first token."""
    return [[ReplicaLost("lost")] for _ in range(times)]


@pytest.mark.parametrize(("roll", "revision"), [(0.0, "r2"), (0.099, "r2"), (0.1, "r1"), (0.999, "r1")])
async def test_a_request_goes_to_the_revision_it_rolled(world: World, roll: float, revision: str) -> None:
    """The canary takes its share; header, log and metrics name the revision that answered."""
    with_canary(world)
    world.roll = roll
    reply = await world.client().chat.completions.with_raw_response.create(**ASK)
    assert applications(world) == [revision]
    assert reply.headers["x-lateen-release"] == f"model=chatty@{revision}"
    assert world.lines()[0]["release"] == f"model=chatty@{revision}"
    labels = f'model="chatty",outcome="answered",replica="replica-0",revision="{revision}"'
    assert f"lateen_gateway_model_requests_total{{{labels}}} 1.0" in world.service.metrics.text().decode()


async def test_all_answers_of_a_request_are_one_revisions(world: World) -> None:
    """A request that wants several answers gets them all from the revision that it rolled."""
    with_canary(world)
    await world.client().chat.completions.create(**ASK, n=3)
    assert applications(world) == ["r2", "r2", "r2"]


async def test_embeddings_have_canaries_too(world: World) -> None:
    """A canary of an embedding model takes its share, and is named in the reply's release."""
    canary = {"revision": "r2", "application": "default_minilm_r2", "weight": 10, "since": 5}
    world.accept(models=[model("minilm", task="embed") | {"canary": canary}])
    reply = await world.client().embeddings.with_raw_response.create(model="minilm", input="a")
    assert world.models.embedded == [("default_minilm_r2", ["a"])]
    assert reply.headers["x-lateen-release"] == "model=minilm@r2"


async def test_a_lost_replica_is_replaced_within_the_pick(world: World) -> None:
    """A request whose replica is lost goes to another replica of the same revision."""
    with_canary(world)
    world.models.answers["default_chatty_r2"] = lost(1)
    await world.client().chat.completions.create(**ASK)
    assert applications(world) == ["r2", "r2"]


async def test_the_other_revision_answers_for_one_that_keeps_dying(world: World) -> None:
    """The last try goes to the other revision; the one that failed has each crash in its counts."""
    with_canary(world)
    world.models.answers["default_chatty_r2"] = lost(2)
    reply = await world.client().chat.completions.with_raw_response.create(**ASK)
    assert applications(world) == ["r2", "r2", "r1"]
    assert reply.headers["x-lateen-release"] == "model=chatty@r1"
    traffic = world.state.traffic.traffic()
    assert (traffic["default_chatty_r2"].requests, traffic["default_chatty_r2"].errors) == (2, 2)
    assert (traffic["default_chatty_r1"].requests, traffic["default_chatty_r1"].errors) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "code", "calls", "status"),
    [
        (Unavailable, "model_unavailable", 6, 200),
        (Unavailable, "adapter_loading", 6, 200),
        (ReplicaLost, "model_unavailable", 3, 503),
    ],
)
async def test_only_replicas_that_died_cost_tries(
    world: World, kind: type[Unavailable], code: str, calls: int, status: int
) -> None:
    """One that stops as planned or has not loaded the adapter leaves the three tries of a deadly request alone."""
    world.models.answers["default_chatty_r1"] = [[kind("not now", code=code)] for _ in range(5)]
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert (len(world.models.calls), reply.status_code) == (calls, status)


async def test_replicas_that_only_say_no_are_not_asked_for_ever(world: World) -> None:
    """When the queue timeout is over, the client is told what the last replica said."""
    world.accept(models=[model("chatty") | {"queueTimeoutSeconds": 0}])
    world.models.default = [Unavailable("not now", code="adapter_loading", param="model")]
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "adapter_loading")
    assert len(world.models.calls) == 1


async def test_the_other_revision_answers_for_one_without_replicas(world: World) -> None:
    """When no replica of the pick is there within its part of the queue timeout, the other revision answers."""
    with_canary(world, queue=0)
    world.models.refusals["default_chatty_r2"] = [Unavailable("none there")]
    await world.client().chat.completions.create(**ASK)
    assert applications(world) == ["r2", "r1"]


async def test_each_revision_has_its_part_of_the_queue_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pick is waited for during half of the queue timeout, the other revision during the rest."""
    loop = asyncio.get_running_loop()
    time, skipped = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: time() + skipped)

    def skip() -> None:
        nonlocal skipped
        skipped += 8

    with_canary(world, queue=30)
    world.on_pause = skip
    world.models.refusals["default_chatty_r2"] = [Unavailable("none there") for _ in range(9)]
    world.models.refusals["default_chatty_r1"] = [Unavailable("busy")]
    await world.client().chat.completions.create(**ASK)
    assert applications(world) == ["r2", "r2", "r2", "r1", "r1"]


async def test_a_withdrawn_canary_is_not_asked_again(world: World) -> None:
    """A canary that leaves the catalog while a request waits for it hands the request to what serves."""
    with_canary(world)
    world.models.answers["default_chatty_r2"] = lost(1)
    world.on_pause = world.accept
    await world.client().chat.completions.create(**ASK)
    assert applications(world) == ["r2", "r1"]


async def test_a_promoted_canary_keeps_its_requests(world: World) -> None:
    """A canary that becomes the model's revision while a request waits for it is asked again."""
    with_canary(world)
    world.models.answers["default_chatty_r2"] = lost(1)
    world.on_pause = lambda: world.accept(models=[model("chatty", "r2")])
    await world.client().chat.completions.create(**ASK)
    assert applications(world) == ["r2", "r2"]


async def test_an_application_without_replicas_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries that no replica began are not counted: they go on until the queue timeout, ever less often."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)
    world.models.refusals["default_chatty_r1"] = [Unavailable("restarting") for _ in range(9)]
    await world.client().chat.completions.create(**ASK)
    assert len(world.models.calls) == 10
    assert len(world.pauses) == 9
    assert [round(pause, 3) for pause in world.pauses] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert 'lateen_gateway_model_retries_total{model="chatty",replica="replica-0"} 9.0' in (
        world.service.metrics.text().decode()
    )


@pytest.mark.parametrize("refused", [True, False])
async def test_no_replica_in_time_is_a_queue_timeout(world: World, refused: bool) -> None:
    """A request that no replica begins within the queue timeout is a 503 queue_timeout; its place is given up."""
    world.accept(models=[model("chatty") | {"queueTimeoutSeconds": 0}])
    world.models.queue = asyncio.Event()
    if refused:
        world.models.refusals["default_chatty_r1"] = [Unavailable("restarting")]
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_timeout")
    assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("1", "true")
    assert world.models.closed == ["default_chatty_r1"]
    text = world.service.metrics.text().decode()
    assert 'lateen_gateway_queue_timeouts_total{model="chatty",replica="replica-0"} 1.0' in text
    assert world.state.traffic.traffic()["default_chatty_r1"].errors == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "minilm", "input": "a"}),
        ("/v1/vector_stores/handbook/search", {"query": "a"}),
    ],
)
async def test_embedders_have_a_queue_timeout_too(world: World, path: str, body: dict[str, str]) -> None:
    """Embeddings of requests and of queries wait no longer than their model's queue timeout."""
    embedder = model("minilm", task="embed") | {"queueTimeoutSeconds": 0}
    world.accept(models=[embedder], indexes=[index("handbook")])
    world.models.queue = asyncio.Event()
    async with world.http() as http:
        reply = await http.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_timeout")


async def test_work_may_take_longer_than_the_queue_timeout(world: World) -> None:
    """Once a replica has begun, only the request timeout counts."""
    world.accept(models=[model("chatty") | {"queueTimeoutSeconds": 0}])
    world.models.silent = asyncio.Event()
    asking = asyncio.create_task(world.client().chat.completions.create(**ASK))
    await world.models.asked.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    world.models.silent.set()
    assert (await asking).choices[0].message.content == "Hello world"


async def test_waiting_ends_at_the_request_timeout(world: World) -> None:
    """A request timeout that is over before the queue timeout is a 504."""
    world.accept(models=[model("chatty", timeout=0)])
    world.models.queue = asyncio.Event()
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().chat.completions.create(**ASK)
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    assert world.state.traffic.traffic()["default_chatty_r1"].errors == 1


@pytest.mark.parametrize(
    ("serving", "facts", "expected"),
    [
        ({}, {"default_chatty_r1": LOAD}, "7"),
        ({"default_chatty_r1": 0}, {"default_chatty_r1": LOAD}, "7"),
        ({"default_chatty_r1": 2}, {"default_chatty_r1": LOAD}, "1"),
        ({}, {}, "1"),
    ],
)
@pytest.mark.parametrize("code", ["overloaded", "queue_timeout"])
async def test_retry_after_is_the_load_time_of_a_sleeping_model(
    world: World, serving: dict[str, int], facts: dict[str, Facts], expected: str, code: str
) -> None:
    """Where no replica serves, clients are told to come back when one will have loaded; else in a second."""
    world.cluster.serving, world.cluster.facts = serving, facts
    if code == "overloaded":
        world.models.refusals["default_chatty_r1"] = [Overloaded("full")]
    else:
        world.accept(models=[model("chatty") | {"queueTimeoutSeconds": 0}])
        world.models.queue = asyncio.Event()
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, code)
    assert reply.headers["retry-after"] == expected


async def test_retry_after_survives_rays_silence(world: World) -> None:
    """Facts that can't be read change nothing but the hint."""
    world.cluster.serving = {}
    world.cluster.error = OSError("away")
    world.models.refusals["default_chatty_r1"] = [Overloaded("full")]
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")


async def test_a_failure_is_told_while_ray_still_thinks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused requests wait for Ray for a moment only, ask it once for all, and tell what was known last."""
    world.cluster.serving, world.cluster.facts = {}, {"default_chatty_r1": LOAD}
    world.models.refusals["default_chatty_r1"] = [Overloaded("full") for _ in range(5)]
    asked: list[asyncio.Future[list[Record]]] = []

    async def silent() -> list[Record]:
        asked.append(asyncio.get_running_loop().create_future())
        return await asked[-1]

    async with world.http() as http:
        known = await http.post("/v1/chat/completions", json=ASK)
        world.now += KEPT_SECONDS
        monkeypatch.setattr(world.cluster, "records", silent)
        late = await asyncio.gather(*(http.post("/v1/chat/completions", json=ASK) for _ in range(4)))
    assert {(reply.status_code, reply.headers["retry-after"]) for reply in [known, *late]} == {(503, "7")}
    assert [question.done() for question in asked] == [False]
    asked[0].set_result([])
    await world.service.replicas.facts()


@pytest.mark.parametrize("error", [Overloaded("full"), ContextTooLong("long")])
async def test_other_failures_are_not_tried_again(world: World, error: Exception) -> None:
    """A full queue and a wrong request are told at once, and not held against the model."""
    world.models.refusals["default_chatty_r1"] = [error]
    with pytest.raises(openai.APIStatusError):
        await world.client().chat.completions.create(**ASK)
    assert len(world.models.calls) == 1
    found = world.state.traffic.traffic()["default_chatty_r1"]
    assert (found.requests, found.errors) == (1, 0)
    assert 'outcome="refused"' in world.service.metrics.text().decode()


async def test_a_model_that_goes_while_its_requests_wait(world: World) -> None:
    """A request that waits for a model that is then removed is told so."""
    world.models.refusals["default_chatty_r1"] = [Unavailable("stopping")]
    world.on_pause = lambda: world.accept(models=[])
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_removed")


async def test_leaving_the_queue_gives_up_the_place(world: World) -> None:
    """A client that goes away while no replica has begun is not waited for any longer, and counts as nothing."""
    world.models.queue = asyncio.Event()
    exchange = RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK).encode())
    running = asyncio.create_task(exchange.run())
    await world.models.asked.wait()
    exchange.leave.set()
    await running
    assert world.models.closed == ["default_chatty_r1"]
    assert world.lines()[0]["status"] == 499
    assert world.state.traffic.traffic()["default_chatty_r1"].requests == 0


async def test_a_client_that_leaves_an_answer_had_it(world: World) -> None:
    """Whoever leaves after the first token was served by the model."""
    world.models.hold = asyncio.Event()
    exchange = RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK | {"stream": True}).encode())
    running = asyncio.create_task(exchange.run())
    await exchange.started.wait()
    exchange.leave.set()
    await running
    found = world.state.traffic.traffic()["default_chatty_r1"]
    assert (found.requests, found.errors) == (1, 0)


async def test_ranking_goes_the_same_way(world: World) -> None:
    """A call of a reranker is tried again, too."""
    world.accept(models=[model("ranker", task="rerank")])
    ranker = world.state.current.models["ranker"]
    world.models.refusals["default_ranker_r1"] = [Unavailable("restarting")]
    target, ranking = await calling.call(
        world.service,
        ranker,
        None,
        lambda current: world.service.caller.rerank(current.application, "zebra", ["a zebra", "a dog"]),
        calling.renewed_model,
    )
    assert target == ranker
    assert ranking["scores"][0] > ranking["scores"][1]
    assert len(world.models.ranked) == 2


async def test_waits_are_measured(world: World) -> None:
    """Each begun try is one observation of the queue wait."""
    await world.client().chat.completions.create(**ASK)
    text = world.service.metrics.text().decode()
    assert 'lateen_gateway_queue_wait_seconds_count{model="chatty",replica="replica-0"} 1.0' in text


async def test_metrics_forget_what_left_the_catalog(world: World) -> None:
    """Series of revisions and models that are gone disappear; the others stay."""
    world.models.default = list(events("Hi"))
    await world.client().chat.completions.create(**ASK)
    await world.client().embeddings.create(model="minilm", input="a")
    world.accept(models=[model("chatty", "r2"), model("other")], indexes=[])
    await world.client().chat.completions.create(**ASK)
    world.service.metrics.models.keep(world.state.current.revisions())
    lines = [
        line
        for line in world.service.metrics.text().decode().splitlines()
        if "_model_requests_total{" in line
    ]
    assert len(lines) == 1
    assert 'revision="r2"' in lines[0]
    assert 'queue_wait_seconds_count{model="chatty"' in world.service.metrics.text().decode()
    assert 'queue_wait_seconds_count{model="minilm"' not in world.service.metrics.text().decode()
