# SPDX-License-Identifier: Apache-2.0
"""Slow streams: heartbeats while nothing is said, and replies that begin before their first token."""

import asyncio
import json
from typing import Any

import openai
import pytest

from lateen_serving.errors import ModelError
from lateen_serving.gateway import generate, stream
from unit.gateway_fakes import RawExchange, World, events

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
HEARTBEAT = b": keep-alive\n\n"


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


def exchange(world: World) -> RawExchange:
    """A streamed chat completion."""
    return RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK | {"stream": True}).encode())


def content(of: RawExchange) -> bytes:
    """What has arrived."""
    return b"".join(message.get("body", b"") for message in of.messages)


async def test_a_silent_stream_has_heartbeats(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the model says nothing, comments arrive between whole events; the answer is complete all the same."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.0)
    world.models.hold = asyncio.Event()
    asked = exchange(world)
    running = asyncio.create_task(asked.run())
    await asked.kept_alive.wait()
    world.models.hold.set()
    await running
    pieces = [piece for piece in content(asked).decode().split("\n\n") if piece]
    assert {piece[:6] for piece in pieces} == {"data: ", ": keep"}
    assert pieces[-1] == "data: [DONE]"
    assert "Hello" in content(asked).decode()
    assert " world" in content(asked).decode()


async def test_a_busy_stream_has_none(world: World) -> None:
    """A stream that goes on has nothing but its events."""
    asked = exchange(world)
    await asked.run()
    assert HEARTBEAT not in content(asked)


async def test_a_very_slow_start_begins_with_heartbeats(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the first token takes very long, the reply begins without it and stays alive until it comes."""
    monkeypatch.setattr(generate, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.0)
    world.models.silent = asyncio.Event()
    asked = exchange(world)
    running = asyncio.create_task(asked.run())
    await asked.kept_alive.wait()
    assert b"Hello" not in content(asked)
    world.models.silent.set()
    await running
    assert b"Hello" in content(asked)
    assert content(asked).endswith(stream.DONE)


async def test_a_failure_after_a_very_slow_start_is_an_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the reply has begun without its first token, a failure is an error event; unstreamed it is an HTTP error."""
    monkeypatch.setattr(generate, "PATIENCE_SECONDS", 0.0)
    world.models.default = [ModelError("broken")]
    with pytest.raises(openai.APIError, match="broken"):
        async for _ in await world.client().chat.completions.create(**ASK, stream=True):
            pass
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().chat.completions.create(**ASK)
    assert caught.value.code == "model_error"


async def test_leaving_during_a_very_slow_start_stops_the_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that goes away before the first token of a reply that has begun stops the model's work."""
    monkeypatch.setattr(generate, "PATIENCE_SECONDS", 0.0)
    world.models.silent = asyncio.Event()
    asked = exchange(world)
    running = asyncio.create_task(asked.run())
    await asked.started.wait()
    await world.models.asked.wait()
    asked.leave.set()
    await running
    assert world.models.closed == ["default_chatty_r1"]


@pytest.mark.parametrize(
    ("path", "ask", "ending"),
    [
        ("/v1/chat/completions", ASK, ["data: {", "data: [DONE]"]),
        ("/v1/completions", {"model": "chatty", "prompt": "Hi"}, ["data: {", "data: [DONE]"]),
        ("/v1/responses", {"model": "chatty", "input": "Hi"}, ["event: error", "event: response.failed"]),
    ],
)
async def test_a_failed_stream_ends_as_its_protocol_says(
    world: World, path: str, ask: Any, ending: list[str]
) -> None:
    """After the error event comes what the protocol ends with, so that nobody waits for it."""
    world.models.default = [*events("Hel", "lo")[:1], ModelError("broke")]
    async with world.http() as http:
        reply = await http.post(path, json=ask | {"stream": True})
    pieces = reply.text.removesuffix("\n\n").split("\n\n")
    assert [piece[: len(start)] for piece, start in zip(pieces[-2:], ending, strict=True)] == ending
    assert '"code":"model_error"' in pieces[-2]
    assert reply.text.count("[DONE]") == reply.text.endswith("data: [DONE]\n\n")
