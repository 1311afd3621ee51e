# SPDX-License-Identifier: Apache-2.0
"""Events that travel together."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from lateen_serving.engine.gathering import gathered, merged
from lateen_serving.engine.protocol import TokenEvent, TokenLogprob
from lateen_serving.errors import ModelError
from unit.gateway_fakes import events


class Answer:
    """An answer that tells whether it was closed; a failure may end it."""

    def __init__(self, *words: str, failure: Exception | None = None) -> None:
        self._words = words
        self._failure = failure
        self.is_closed = False

    async def __call__(self) -> AsyncGenerator[TokenEvent, None]:
        try:
            for event in events(*self._words):
                yield event
                if self._failure is not None:
                    raise self._failure
        finally:
            self.is_closed = True


async def test_only_the_first_event_travels_alone() -> None:
    """What comes within the time is one event, with the counts and the end of the last of them."""
    answer = Answer("One", " two", " three", " four")
    first, rest = [event async for event in gathered(answer(), seconds=60)]
    expected = list(events("One", " two", " three", " four"))
    assert first == expected[0]
    assert rest == merged(expected[1:])
    assert (rest["text"], rest["completion_tokens"]) == (" two three four", 4)
    assert "finish_reason" in rest
    assert answer.is_closed


def test_log_probabilities_outlive_an_event_without() -> None:
    """An engine's events need not all have some: those of the others are kept, in their order."""
    one, two = (TokenLogprob(token=text, bytes=[], logprob=0.0, top=[]) for text in "ab")
    words = events("a", "b", "c", "d")
    words[0]["logprobs"], words[2]["logprobs"] = [one], [two]
    assert merged(words)["logprobs"] == [one, two]
    assert "logprobs" not in merged(events("a", "b"))


async def test_a_slow_answer_is_told_of_now_and_then() -> None:
    """An event that comes when the time is over takes those before it along."""
    found = [event["text"] async for event in gathered(Answer("a", "b", "c", "d")(), seconds=0)]
    assert found == ["a", "b", "c", "d"]


async def test_a_failure_comes_at_once() -> None:
    """It is not held back, and the answer is closed."""
    answer = Answer("a", "b", failure=ModelError("broken"))
    found: list[str] = []
    with pytest.raises(ModelError):
        found += [event["text"] async for event in gathered(answer())]
    assert answer.is_closed


async def test_leaving_closes_the_answer() -> None:
    """Whoever stops reading stops the work."""
    answer = Answer("a", "b", "c")
    reading = gathered(answer())
    await anext(reading)
    await reading.aclose()
    await asyncio.sleep(0)
    assert answer.is_closed
