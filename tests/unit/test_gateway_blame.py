# SPDX-License-Identifier: Apache-2.0
"""What is held against a canary, and what is not: crashes and slowness are, planned stops aren't."""

import asyncio
import json
from bisect import bisect_left
from typing import Any

import pytest

from lateen_api.gateway_report import LATENCY_BOUNDS
from lateen_serving.errors import QueueTimeout, ReplicaLost, Unavailable
from unit.gateway_conditions import until
from unit.gateway_fakes import RawExchange, World, model

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
CANARY = {"revision": "r2", "application": "default_chatty_r2", "weight": 10, "since": 5}


@pytest.fixture
def world() -> World:
    """A fresh gateway whose requests all roll the canary."""
    return World()


def with_canary(world: World, queue: int = 30) -> None:
    """Give the model a canary, and send requests to it."""
    world.accept(models=[model("chatty") | {"canary": CANARY, "queueTimeoutSeconds": queue}])


async def test_a_crash_counts_although_the_answer_came(world: World) -> None:
    """A revision that killed its replica under a request has an error, also when another replica answered."""
    with_canary(world)
    world.models.answers["default_chatty_r2"] = [[ReplicaLost("lost")]]
    await world.client().chat.completions.create(**ASK)
    found = world.state.traffic.traffic()["default_chatty_r2"]
    assert (found.requests, found.errors) == (2, 1)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_planned_stop_is_not_held_against_a_canary(world: World, begun: bool) -> None:
    """A canary whose replicas stop and start again is not blamed for requests that were answered in the end."""
    with_canary(world)
    stopped: list[Any] = [Unavailable("stopped")]
    if begun:
        world.models.answers["default_chatty_r2"] = [stopped]
    else:
        world.models.refusals["default_chatty_r2"] = stopped
    await world.client().chat.completions.create(**ASK)
    found = world.state.traffic.traffic()["default_chatty_r2"]
    assert (found.requests, found.errors) == (1, 0)


async def test_a_canary_without_replicas_is_not_blamed_for_a_wait(world: World) -> None:
    """A request that the other revision answered, because no replica of the canary was there, counts as nothing."""
    with_canary(world, queue=0)
    world.models.refusals["default_chatty_r2"] = [Unavailable("none there")]
    await world.client().chat.completions.create(**ASK)
    traffic = world.state.traffic.traffic()
    assert (traffic["default_chatty_r2"].requests, traffic["default_chatty_r1"].requests) == (0, 1)


@pytest.mark.parametrize(("serving", "errors"), [(1, 1), (0, 0)])
async def test_a_canary_that_is_too_slow_shows(world: World, serving: int, errors: int) -> None:
    """A wait that was given up speaks against a canary with replicas, and not against one that has none just now."""
    with_canary(world, queue=0)
    world.cluster.serving = {"default_chatty_r2": serving}
    world.models.refusals["default_chatty_r2"] = [QueueTimeout("busy")]
    await world.client().chat.completions.create(**ASK)
    traffic = world.state.traffic.traffic()
    assert (traffic["default_chatty_r2"].requests, traffic["default_chatty_r2"].errors) == (errors, errors)
    assert (traffic["default_chatty_r1"].requests, traffic["default_chatty_r1"].errors) == (1, 0)


def skipping(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the loop's clock is ahead, which the test may change."""
    loop = asyncio.get_running_loop()
    time, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: time() + ahead[0])
    return ahead


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
@pytest.mark.parametrize(("streamed", "slow"), [(True, 0), (False, 1)])
async def test_a_reply_without_a_stream_is_as_slow_as_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, streamed: bool, slow: int
) -> None:
    """Of a stream the time to its first event counts, of any other reply the time until all of it is there."""
    ahead = skipping(monkeypatch)
    world.models.hold = asyncio.Event()
    field = {"chat/completions": "messages", "completions": "prompt", "responses": "input"}[path]
    ask = {"model": "chatty", field: ASK["messages"] if field == "messages" else "Hi", "stream": streamed}
    exchange = RawExchange(world.app, f"/v1/{path}", json.dumps(ask).encode())
    running = asyncio.create_task(exchange.run())
    await until(lambda: b"lateen_gateway_queue_wait_seconds_count" in world.service.metrics.text())
    ahead[0] += 4.0
    world.models.hold.set()
    await running
    latencies = world.state.traffic.traffic()["default_chatty_r1"].latencies
    assert sum(latencies) == 1
    assert sum(latencies[bisect_left(LATENCY_BOUNDS, 4.0) :]) == slow
