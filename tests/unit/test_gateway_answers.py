# SPDX-License-Identifier: Apache-2.0
"""Answers that break off in the middle: begun again where nothing was sent, told where something was; how they count."""

import asyncio
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from lateen_serving.errors import BrokenOff, ReplicaLost, ServiceError, Unavailable
from lateen_serving.gateway import generate
from unit.gateway_fakes import World, events, model

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
APPLICATION = "default_chatty_r1"


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


def broken(world: World, times: int) -> None:
    """The next answers break after their first token; those after them are whole."""
    first = next(iter(events("Hello", " world")))
    world.models.answers[APPLICATION] = [[first, Unavailable("lost")] for _ in range(times)]


async def drain(stream: Any) -> None:
    """Read a stream to its end."""
    async for _ in stream:
        pass


async def test_a_reply_that_was_not_sent_is_begun_again(world: World) -> None:
    """A replica that dies in the middle of an answer costs a client without a stream nothing but time."""
    broken(world, 2)
    reply = await world.client().chat.completions.create(**ASK)
    assert reply.choices[0].message.content == "Hello world"
    assert len(world.models.calls) == 3
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2


async def test_it_is_not_begun_again_for_ever(world: World) -> None:
    """The request may be what kills the replicas: the third one is the last."""
    broken(world, 3)
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().chat.completions.create(**ASK)
    assert caught.value.status_code == 503
    assert len(world.models.calls) == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_tries_before_and_after_the_first_token_add_up(world: World, streamed: bool) -> None:
    """Replicas lost before and in the middle of one answer are counted together: three, not three times three."""
    first = next(iter(events("Hello", " world")))
    world.models.answers[APPLICATION] = [[ReplicaLost("one")], [first, ReplicaLost("two")]]
    world.models.default = [ReplicaLost("three")]
    with pytest.raises(openai.APIError):
        await drain(await world.client().chat.completions.create(**ASK, stream=streamed))
    assert len(world.models.calls) == (2 if streamed else 3)


async def test_the_last_try_of_a_broken_answer_is_the_other_revisions(world: World) -> None:
    """A canary that broke an answer off twice is not asked a third time, and has both in its counts."""
    canary = {"revision": "r2", "application": "default_chatty_r2", "weight": 10, "since": 5}
    world.accept(models=[model("chatty") | {"canary": canary}])
    first = next(iter(events("Hello", " world")))
    world.models.answers["default_chatty_r2"] = [[first, ReplicaLost("lost")] for _ in range(9)]
    reply = await world.client().chat.completions.create(**ASK)
    assert reply.choices[0].message.content == "Hello world"
    assert [call[0] for call in world.models.calls] == ["default_chatty_r2"] * 2 + ["default_chatty_r1"]
    traffic = world.state.traffic.traffic()
    assert (traffic["default_chatty_r2"].requests, traffic["default_chatty_r2"].errors) == (2, 2)
    assert (traffic["default_chatty_r1"].requests, traffic["default_chatty_r1"].errors) == (1, 0)


async def test_only_the_answer_that_broke_off_is_begun_again(world: World) -> None:
    """Of several answers the others go on, and each has tries of its own."""
    first = next(iter(events("Hello", " world")))
    broken_off: list[Any] = [first, Unavailable("lost")]
    world.models.answers[APPLICATION] = [broken_off, broken_off, broken_off, broken_off]
    taking_turns: Any = SimpleNamespace(wait=lambda: asyncio.sleep(0))
    world.models.silent = taking_turns
    reply = await world.client().chat.completions.create(**ASK, n=2)
    assert [choice.message.content for choice in reply.choices] == ["Hello world"] * 2
    assert len(world.models.calls) == 6


async def test_a_model_that_has_gone_is_not_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure before the first token was tried as often as it may, also when the answer was handed out before it."""
    monkeypatch.setattr(generate, "PATIENCE_SECONDS", 0.0)
    world.models.refusals[APPLICATION] = [Unavailable("stopping")]
    world.on_pause = lambda: world.accept(models=[])
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().chat.completions.create(**ASK)
    assert caught.value.code == "model_removed"
    assert len(world.models.calls) == 1


@pytest.mark.parametrize(
    ("error", "counted"),
    [(Unavailable("stopped"), (1, 0)), (ReplicaLost("died"), (2, 1)), (BrokenOff("no end"), (2, 1))],
)
async def test_what_no_client_saw_counts_by_its_cause(
    world: World, error: ServiceError, counted: tuple[int, int]
) -> None:
    """An answer that was begun again counts against the revision only if the revision broke it off."""
    world.models.answers[APPLICATION] = [[next(iter(events("Hello", " world"))), error]]
    await world.client().chat.completions.create(**ASK)
    found = world.state.traffic.traffic()[APPLICATION]
    assert (found.requests, found.errors) == counted


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("more", [0, 1])
async def test_an_answer_that_cant_be_read_is_not_answered_well(
    world: World, streamed: bool, more: int
) -> None:
    """A call that is none is an error in the counts of the revision that wrote it, and only its own."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    unreadable: list[Any] = list(events("<tool_call>add(3)</tool_call>"))
    world.models.answers[APPLICATION] = [unreadable]
    ask: Any = ASK | {"tools": [tool], "n": 1 + more}
    with pytest.raises(openai.APIError):
        await drain(await world.client().chat.completions.create(**ask, stream=streamed))
    found = world.state.traffic.traffic()[APPLICATION]
    assert (found.requests, found.errors) == (1 + more, 1)


async def test_a_stream_that_was_begun_ends_with_an_error(world: World) -> None:
    """What a client has read can't be taken back."""
    broken(world, 1)
    stream = await world.client().chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass
    assert len(world.models.calls) == 1
    found = world.state.traffic.traffic()[APPLICATION]
    assert (found.requests, found.errors) == (1, 1)
