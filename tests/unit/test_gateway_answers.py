# SPDX-License-Identifier: Apache-2.0
"""Answers that break off in the middle: begun again where nothing was sent, told where something was."""

from typing import Any

import openai
import pytest

from lateen_serving.errors import Unavailable
from unit.gateway_fakes import World, events

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


async def test_a_stream_that_was_begun_ends_with_an_error(world: World) -> None:
    """What a client has read can't be taken back."""
    broken(world, 1)
    stream = await world.client().chat.completions.create(**ASK, stream=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass
    assert len(world.models.calls) == 1
