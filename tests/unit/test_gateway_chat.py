# SPDX-License-Identifier: Apache-2.0
"""Chat completions through the official client."""

import asyncio
import json
from typing import Any

import openai
import pytest

from lateen_serving.errors import ContextTooLong, ModelError, Overloaded, ReplicaLost, Unavailable
from unit.gateway_fakes import RawExchange, World, events, model

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


async def drain(stream: Any, texts: list[str]) -> None:
    """Read a stream to its end, collecting its text."""
    async for chunk in stream:
        delta = chunk.choices[0].delta
        texts += [delta.content or ""]


async def test_answer_carries_text_usage_and_release(world: World) -> None:
    """A plain completion has the text, the reason it ended, its usage and the release in a header."""
    reply = await world.client().chat.completions.with_raw_response.create(**ASK)
    completion = reply.parse()
    assert completion.choices[0].message.content == "Hello world"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 2)
    assert completion.usage.total_tokens == 9
    assert reply.headers["x-lateen-release"] == "model=chatty@r1"
    assert reply.headers["x-request-id"]
    assert int(reply.headers["openai-processing-ms"]) >= 0


async def test_stream_has_role_deltas_finish_usage(world: World) -> None:
    """A stream begins with the role, then has the text, the finish reason and, if asked for, the usage."""
    stream = await world.client().chat.completions.create(
        **ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello world"
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_stream_without_usage_ends_with_done(world: World) -> None:
    """Without include_usage there is no usage chunk, and the bytes end with [DONE]."""
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK | {"stream": True})
    lines = [line for line in reply.text.split("\n\n") if line]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(line[6:]) for line in lines[:-1])


async def test_parameters_reach_the_model(world: World) -> None:
    """Every accepted generation parameter arrives at the engine; developer becomes system, parts become text."""
    await world.client().chat.completions.create(
        model="chatty",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        max_tokens=5,
        max_completion_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=3,
        stop="X",
    )
    application, request = world.models.calls[0]
    assert application == "default_chatty_r1"
    assert request == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "ab"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["X"],
        "whole": True,
    }


async def test_token_limit_is_told(world: World) -> None:
    """An answer cut by the token limit has finish_reason length."""
    world.models.default = list(events("cut", finish_reason="length"))
    completion = await world.client().chat.completions.create(**ASK)
    assert completion.choices[0].finish_reason == "length"


async def test_answers_can_be_sent_back(world: World) -> None:
    """An assistant message as the client returned it is accepted as a part of the next conversation."""
    client = world.client()
    completion = await client.chat.completions.create(**ASK)
    earlier: Any = completion.choices[0].message
    await client.chat.completions.create(model="chatty", messages=[*ASK["messages"], earlier])
    assert world.models.calls[-1][1]["messages"][1] == {"role": "assistant", "content": "Hello world"}


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ContextTooLong("too long"), openai.BadRequestError, "context_length_exceeded"),
        (Overloaded("full"), openai.InternalServerError, "overloaded"),
        (ModelError("broken"), openai.InternalServerError, "model_error"),
        (RuntimeError("secret"), openai.InternalServerError, "server_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_early_failure_is_an_http_error(
    world: World, error: Exception, kind: type[openai.APIStatusError], code: str, streamed: bool
) -> None:
    """A failure before the first token is an HTTP error of the right class, streamed or not."""
    world.models.default = [error]
    with pytest.raises(kind) as caught:
        await world.client().chat.completions.create(**ASK, stream=streamed)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert world.models.closed == ["default_chatty_r1"]


async def test_unexpected_error_is_logged_with_its_traceback(world: World) -> None:
    """A defect is told to the client by an id only; the log has that id and the traceback."""
    world.models.default = [RuntimeError("a detail")]
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    (line,) = world.lines("unexpected error")
    assert reply.status_code == 500
    assert line["error_id"] in reply.json()["error"]["message"]
    assert "a detail" in line["exception"]


@pytest.mark.parametrize("error", [ModelError("broke"), RuntimeError("secret")])
async def test_failure_in_the_middle_is_an_error_event(world: World, error: Exception) -> None:
    """A stream whose model fails half-way ends with an error event, which the client raises."""
    world.models.default = [*events("Hel", "lo")[:1], error]
    stream = await world.client().chat.completions.create(**ASK, stream=True)
    texts: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        await drain(stream, texts)
    assert "".join(texts) == "Hel"
    assert "secret" not in str(caught.value)
    assert world.models.closed == ["default_chatty_r1"]
    assert world.lines()[0]["failure"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_missing_end_is_never_silent(world: World, streamed: bool) -> None:
    """An engine that stops without a finish reason is an error, not a short answer."""
    world.models.default = list(events("Hel", "lo")[:1])
    with pytest.raises(openai.APIError, match="broke off"):
        await drain(await world.client().chat.completions.create(**ASK, stream=streamed), [])


async def test_lost_replica_is_asked_again_under_the_current_name(world: World) -> None:
    """When an application is gone, the model is looked up in the newest catalog and asked again."""
    world.models.answers["default_chatty_r1"] = [[Unavailable("gone")]]
    world.on_pause = lambda: world.accept(models=[model("chatty", "r2")])
    reply = await world.client().chat.completions.with_raw_response.create(**ASK)
    assert [call[0] for call in world.models.calls] == ["default_chatty_r1", "default_chatty_r2"]
    assert reply.headers["x-lateen-release"] == "model=chatty@r2"


async def test_tries_are_bounded(world: World) -> None:
    """After three lost replicas the client is told that the model is unavailable, and when to come back."""
    world.models.default = [ReplicaLost("gone")]
    async with world.http() as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "1"
    assert len(world.models.calls) == 3
    assert len(world.pauses) == 2


async def test_nothing_is_asked_again_after_the_first_token(world: World) -> None:
    """A replica lost after the first token ends the stream with an error; the model is not asked again."""
    world.models.default = [*events("Hel", "lo")[:1], Unavailable("gone")]
    stream = await world.client().chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIError):
        await drain(stream, [])
    assert len(world.models.calls) == 1


async def test_catalog_switch_does_not_touch_a_stream(world: World) -> None:
    """A request in flight ends as it began although its model has left the catalog; new ones see the new catalog."""
    world.models.hold = asyncio.Event()
    client = world.client()
    exchange = RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK | {"stream": True}).encode())
    running = asyncio.create_task(exchange.run())
    await exchange.started.wait()
    world.accept(models=[])
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(**ASK)
    world.models.hold.set()
    await running
    text = b"".join(message.get("body", b"") for message in exchange.messages).decode()
    assert " world" in text
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("streamed", [False, True])
async def test_disconnect_stops_the_model(world: World, streamed: bool) -> None:
    """When the client goes away in the middle of an answer, the call to the model is closed."""
    world.models.hold = asyncio.Event()
    exchange = RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK | {"stream": streamed}).encode())
    running = asyncio.create_task(exchange.run())
    if streamed:
        await exchange.started.wait()
    else:
        await world.models.asked.wait()
    exchange.leave.set()
    await running
    assert world.models.closed == ["default_chatty_r1"]


async def test_disconnect_before_the_first_token_stops_the_model(world: World) -> None:
    """A client that leaves while the model is still silent stops it too, and is logged as gone."""
    world.models.silent = asyncio.Event()
    exchange = RawExchange(world.app, "/v1/chat/completions", json.dumps(ASK | {"stream": True}).encode())
    running = asyncio.create_task(exchange.run())
    await world.models.asked.wait()
    exchange.leave.set()
    await running
    assert world.models.closed == ["default_chatty_r1"]
    assert world.lines()[0]["status"] == 499


async def test_deadline_is_the_models(world: World) -> None:
    """A model that says nothing within its request timeout is an HTTP 504, and its work is stopped."""
    world.accept(models=[model("chatty", timeout=0)])
    world.models.silent = asyncio.Event()
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().chat.completions.create(**ASK)
    assert caught.value.status_code == 504
    assert caught.value.code == "timeout"
    assert world.models.closed == ["default_chatty_r1"]


async def test_log_line_names_request_but_no_content(world: World) -> None:
    """One line per request with ids, tokens and times; never the key or what was said."""
    reply = await world.client().chat.completions.with_raw_response.create(
        **ASK, extra_headers={"x-request-id": "mine-1"}
    )
    (line,) = world.lines()
    assert reply.headers["x-request-id"] == "mine-1"
    assert (line["request_id"], line["key"], line["status"]) == ("mine-1", "tester", 200)
    assert (line["model"], line["prompt_tokens"], line["completion_tokens"]) == ("chatty", 7, 2)
    assert line["first_token_ms"] <= line["duration_ms"]
    assert not any(word in world.output.getvalue() for word in ("Hello", "unit-test-key", '"Hi"'))
