# SPDX-License-Identifier: Apache-2.0
"""Completions of bare texts, through the official client."""

import time
from typing import Any

import openai
import pytest

from lateen_serving.engine.protocol import TokenChoice, TokenLogprob
from lateen_serving.errors import ContextTooLong, ModelError
from lateen_serving.gateway.completions import _logprobs
from unit.gateway_fakes import World, events, with_logprobs


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


async def test_bare_text_is_continued(world: World) -> None:
    """The text goes to the engine as it is, with OpenAI's default of 16 tokens, and no messages."""
    completion = await world.client().completions.create(model="chatty", prompt="Once", seed=1, stop="X")
    assert world.models.calls[0][1] == {
        "messages": [],
        "prompt": "Once",
        "max_tokens": 16,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 1,
        "stop": ["X"],
        "whole": True,
    }
    (choice,) = completion.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == ("Hello world", "stop", None)
    assert completion.usage is not None
    assert completion.usage.total_tokens == 9


async def test_several_texts_with_several_choices(world: World) -> None:
    """N choices of each text come text by text; each text's tokens count once."""
    world.models.answers["default_chatty_r1"] = [list(events(text)) for text in "abcd"]
    completion = await world.client().completions.create(model="chatty", prompt=["x", "y"], n=2, seed=5)
    assert [choice.text for choice in completion.choices] == ["a", "b", "c", "d"]
    assert [(call[1]["prompt"], call[1]["seed"]) for call in world.models.calls] == [
        ("x", 5),
        ("x", 6),
        ("y", 5),
        ("y", 6),
    ]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (14, 4)


async def test_log_probabilities_have_the_older_shape(world: World) -> None:
    """Tokens, their probabilities, the likeliest others and their places in the text, streamed or not."""
    world.models.default = list(with_logprobs(events("Hel", "lo"), 1))
    client = world.client()
    completion = await client.completions.create(model="chatty", prompt="Once", logprobs=1)
    told = completion.choices[0].logprobs
    assert told is not None
    assert (told.tokens, told.token_logprobs, told.text_offset) == (["Hel", "lo"], [-0.5, -0.5], [0, 3])
    assert told.top_logprobs == [{"other0": -1.0}] * 2
    stream: Any = await client.completions.create(model="chatty", prompt="Once", logprobs=1, stream=True)
    offsets = [chunk.choices[0].logprobs.text_offset async for chunk in stream]
    assert offsets == [[0], [3]]


async def test_tokens_that_are_parts_of_a_character(world: World) -> None:
    """Each has a name of its own, also among the likeliest ones, and its place is that of its character."""
    sea, other = "🌊".encode(), "🌍".encode()

    def choice(raw: bytes, logprob: float = -0.5) -> TokenChoice:
        return TokenChoice(token=raw.decode(errors="replace"), bytes=list(raw), logprob=logprob)

    parts = [sea[:2], sea[2:3], sea[3:], b"!"]
    tops: list[list[TokenChoice]] = [[], [], [choice(sea[3:], -0.5), choice(other[3:], -1.0)], []]
    event = next(iter(events("🌊!")))
    event["logprobs"] = [TokenLogprob(**choice(part), top=top) for part, top in zip(parts, tops, strict=True)]
    world.models.default = [event]
    completion = await world.client().completions.create(model="chatty", prompt="Once", logprobs=2)
    told = completion.choices[0].logprobs
    assert told is not None
    assert told.tokens == [r"bytes:\xf0\x9f", r"bytes:\x8c", r"bytes:\x8a", "!"]
    assert told.text_offset == [0, 0, 0, 1]
    assert told.top_logprobs is not None
    assert told.top_logprobs[2] == {r"bytes:\x8a": -0.5, r"bytes:\x8d": -1.0}


def test_places_in_a_long_text_are_found_in_time_that_its_length_bounds() -> None:
    """Every token is decoded once, however many are before it."""
    text = "🌊" * 10
    token = TokenLogprob(token=text, bytes=list(text.encode()), logprob=-0.5, top=[])
    began = time.process_time()
    offsets = _logprobs([token] * 30_000, 5)["text_offset"]
    assert time.process_time() - began < 3
    assert offsets == list(range(5, 300_005, 10))


async def test_stream_ends_with_usage_and_done(world: World) -> None:
    """Pieces arrive by choice, the last one says why it ended, then the usage and [DONE]."""
    stream: Any = await world.client().completions.create(
        model="chatty", prompt="Once", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert [choice.text for chunk in chunks for choice in chunk.choices] == ["Hello", " world"]
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [None, "stop"]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 2)
    async with world.http() as http:
        body = {"model": "chatty", "prompt": "Once", "stream": True}
        assert (await http.post("/v1/completions", json=body)).text.endswith("data: [DONE]\n\n")


async def test_failures(world: World) -> None:
    """An early failure names `prompt`; one in the middle of a stream is an error event."""
    client = world.client()
    world.models.default = [ContextTooLong("too long", param="messages")]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="chatty", prompt="Once", stream=True)
    assert caught.value.param == "prompt"
    world.models.default = [*events("a", "b")[:1], ModelError("broke")]
    with pytest.raises(openai.APIError, match="broke"):
        async for _ in await client.completions.create(model="chatty", prompt="Once", stream=True):
            pass
