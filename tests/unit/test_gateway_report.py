# SPDX-License-Identifier: Apache-2.0
"""The report to the operator: who may read it, and what it says."""

import dataclasses
import math
from typing import Any

import openai
import pytest
from pydantic import SecretStr

from lateen_api.catalog import Catalog
from lateen_api.gateway_report import REPORT_PATH, AdapterFact, Facts, GatewayReport, Traffic
from lateen_serving.errors import ModelError
from lateen_serving.facts import Census, Living
from lateen_serving.gateway import ingress
from lateen_serving.gateway.replicas import KEPT_SECONDS
from lateen_serving.gateway.state import Snapshot
from lateen_serving.settings import ServingSettings
from unit.gateway_fakes import KEY, TOKEN, World, catalog, model

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
CANARY = {"revision": "r2", "application": "default_chatty_r2", "weight": 10, "since": 5}


def facts(load_seconds: float = 2.5) -> Facts:
    """Facts of a small model."""
    return Facts(
        parameters=5,
        context_tokens=512,
        dtype="float32",
        memory_bytes=1000,
        load_seconds=load_seconds,
        engine="transformers",
        engine_reason="asked for",
        adapters={"support": AdapterFact(identity="1")},
    )


@pytest.fixture
def world() -> World:
    """A gateway with a canary."""
    world = World()
    world.accept(models=[model("chatty") | {"canary": CANARY}, model("minilm", task="embed")])
    world.roll = 0.9
    return world


async def read(world: World) -> GatewayReport:
    """The report as the operator reads it."""
    async with world.http(key=TOKEN.get_secret_value()) as http:
        reply = await http.get(REPORT_PATH)
    assert reply.status_code == 200
    return GatewayReport.model_validate(reply.json())


@pytest.mark.parametrize("key", ["", "wrong", KEY, "é", TOKEN.get_secret_value() + "x"])
async def test_only_rays_token_opens_it(world: World, key: str) -> None:
    """Without Ray's token it is a 401, also for a client's key."""
    async with world.http(key="") as http:
        headers = [(b"authorization", b"Bearer " + key.encode())] if key else []
        reply = await http.get(REPORT_PATH, headers=headers)
    assert reply.status_code == 401


async def test_without_a_token_there_is_no_such_route(world: World) -> None:
    """A gateway that has no token answers as for an unknown route, whatever is sent."""
    world.app = ingress.create(dataclasses.replace(world.service, report_token=SecretStr("")))
    async with world.http(key="") as http:
        replies = [
            await http.get(REPORT_PATH),
            await http.get(REPORT_PATH, headers={"authorization": "Bearer "}),
        ]
    assert [(reply.status_code, reply.json()["error"]["code"]) for reply in replies] == [
        (404, "unknown_url")
    ] * 2


async def test_it_names_replica_and_catalog(world: World) -> None:
    """The report says which replica speaks and which catalog it serves; before the first, none."""
    world.accept()
    found = await read(world)
    assert (found.replica, found.catalog) == ("replica-0", Catalog.parse(catalog()).revision)
    world.state._current = Snapshot.empty()
    assert (await read(world)).catalog == ""


async def test_facts_are_of_all_applications(world: World) -> None:
    """Also of one that the catalog does not name yet: its adapters are known before it takes requests."""
    world.cluster.facts = {"default_chatty_r2": facts(), "default_other_r1": facts()}
    assert (await read(world)).facts == world.cluster.facts


async def test_facts_are_kept_for_a_moment(world: World) -> None:
    """A second report does not ask again at once, a later one does; what can't be read stays as it was."""
    world.cluster.facts = {"default_chatty_r1": facts(1.0)}
    await read(world)
    await read(world)
    assert world.cluster.reads == 1
    world.now += KEPT_SECONDS
    world.cluster.error = OSError("away")
    assert (await read(world)).facts == {"default_chatty_r1": facts(1.0)}
    assert world.cluster.reads == 2


async def test_facts_of_replicas_that_are_gone_are_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are deleted where they are kept; but not on the word of a Ray that does not even know the gateway, nor on its
    late answer to a question that was asked before the facts were read: a replica may have started since.
    """
    world.cluster.facts = {"default_chatty_r1": facts()}

    async def nothing() -> Census:
        return Census({}, math.inf)

    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "living", nothing)
        await read(world)
    assert world.cluster.forgotten == []

    async def gateway() -> Census:
        return Census({"gateway": Living()}, world.cluster.asked_at)

    monkeypatch.setattr(world.cluster, "living", gateway)
    world.now += KEPT_SECONDS
    world.cluster.asked_at = world.now - 1
    await read(world)
    assert world.cluster.forgotten == []
    world.cluster.asked_at = math.inf
    world.now += KEPT_SECONDS
    assert (await read(world)).facts == {}
    assert world.cluster.forgotten == [("default_chatty_r1", "replica-0")]


async def test_traffic_is_counted_by_application(world: World) -> None:
    """Answers, streams, embeddings and failures count for the application that got them."""
    client = world.client()
    await client.chat.completions.create(**ASK)
    async for _ in await client.chat.completions.create(**ASK, stream=True):
        pass
    world.roll = 0.0
    world.models.default = [ModelError("broken")]
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(**ASK)
    await client.embeddings.create(model="minilm", input="a")
    traffic = (await read(world)).traffic
    assert {name: (count.requests, count.errors) for name, count in traffic.items()} == {
        "default_chatty_r1": (2, 0),
        "default_chatty_r2": (1, 1),
        "default_minilm_r1": (1, 0),
    }
    assert sum(traffic["default_chatty_r1"].latencies) == 2


async def test_a_stream_that_breaks_is_an_error(world: World) -> None:
    """A failure after the first token counts once, as an error."""
    world.models.default = [world.models.default[0], ModelError("broken")]
    with pytest.raises(openai.APIError):
        async for _ in await world.client().chat.completions.create(**ASK, stream=True):
            pass
    found = (await read(world)).traffic["default_chatty_r1"]
    assert (found.requests, found.errors) == (1, 1)


async def test_a_new_step_counts_anew(world: World) -> None:
    """A canary's new `since` resets its counts and leaves the other revision's."""
    client = world.client()
    await client.chat.completions.create(**ASK)
    world.roll = 0.0
    await client.chat.completions.create(**ASK)
    world.accept(models=[model("chatty") | {"canary": CANARY | {"weight": 50, "since": 6}}], indexes=[])
    traffic = (await read(world)).traffic
    assert traffic["default_chatty_r2"] == Traffic()
    assert traffic["default_chatty_r1"].requests == 1


async def test_reports_are_not_logged_as_requests(world: World) -> None:
    """The operator reads the report all the time: only refused readers appear in the log."""
    await read(world)
    assert world.lines() == []
    async with world.http(key="wrong") as http:
        await http.get(REPORT_PATH)
    assert [line["status"] for line in world.lines()] == [401]


def test_the_token_is_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is read from the variable that Ray itself reads, and never shown."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ray-secret")
    settings = ServingSettings()
    assert settings.ray_auth_token.get_secret_value() == "ray-secret"
    assert "ray-secret" not in repr(settings)
