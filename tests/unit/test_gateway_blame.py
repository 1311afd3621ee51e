# SPDX-License-Identifier: Apache-2.0
"""What is held against a canary, and what is not: crashes and slowness are, planned stops aren't."""

from typing import Any

import pytest

from lateen_serving.errors import QueueTimeout, ReplicaLost, Unavailable
from unit.gateway_fakes import World, model

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
