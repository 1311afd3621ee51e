# SPDX-License-Identifier: Apache-2.0
"""Penalties and biases on logits, and the log probabilities that answers come with."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine_models import Reference, request, save_llama
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.jobs import GenerateJob, Rules
from lateen_serving.engine.logprobs import Alignment
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import TokenEvent, TokenLogprob
from lateen_serving.engine.shaping import Shaping
from lateen_serving.engine.text import AnswerText
from lateen_serving.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved model."""
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    """What transformers answers."""
    return Reference(folder)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TextGenerator]:
    """The engine the tests share."""
    made = asyncio.run(TextGenerator.create(LoadOptions(folder, dtype="float32")))
    yield made
    asyncio.run(made.aclose())


async def events_of(engine: TextGenerator, text: str, **changes: Any) -> list[TokenEvent]:
    """All events of an answer."""
    return [event async for event in engine.generate(request(text, **changes))]


def text_of(events: list[TokenEvent]) -> str:
    """The answer."""
    return "".join(event["text"] for event in events)


def logprobs_of(events: list[TokenEvent]) -> list[TokenLogprob]:
    """All log probabilities of an answer."""
    return [item for event in events for item in event.get("logprobs", [])]


async def test_penalties_are_openais() -> None:
    """Presence is taken off once, frequency once for each time, both and the bias from the tokens concerned only."""
    rules = Rules(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={3: -7.0})
    shaping = Shaping.of(GenerateJob([1], 9, rules, [], Channel()), 5, CPU)
    assert shaping is not None
    for token in (2, 4, 2, 2):
        assert not shaping.accept(token)
    logits = torch.ones(5)
    shaping.apply(logits)
    assert logits.tolist() == [1, 1, 1 - 0.5 - 0.75, 1 - 7, 1 - 0.5 - 0.25]


async def test_nothing_to_shape_costs_nothing() -> None:
    """Requests without penalties, biases and grammar have no shaping at all."""
    assert Shaping.of(GenerateJob([1], 9, Rules(0.7, 0.9), [], Channel()), 5, CPU) is None


async def test_a_penalty_changes_its_own_answer_only(engine: TextGenerator, reference: Reference) -> None:
    """A row with a strong penalty repeats less; greedy rows of the same batch answer as ever."""
    plain, penalized, biased = await asyncio.gather(
        events_of(engine, "hi", max_tokens=60),
        events_of(engine, "hi", max_tokens=60, frequency_penalty=2.0, presence_penalty=2.0),
        events_of(engine, "hi", max_tokens=5, logit_bias={ord("q") - ord("!"): 100.0}),
    )
    assert text_of(plain) == reference.answer("hi", 60)
    assert len(set(text_of(penalized))) > len(set(text_of(plain)))
    assert text_of(biased) == "qqqqq"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": float("nan")}, "min_p"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty"),
        ({"logit_bias": {258: 1.0}}, "logit_bias"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: 101.0}}, "logit_bias"),
        ({"logit_bias": dict.fromkeys(range(301), 1.0)}, "logit_bias"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
    ],
)
async def test_a_number_out_of_bounds_is_refused_by_field(
    engine: TextGenerator, change: dict[str, Any], param: str
) -> None:
    """Each field has its bounds, and the refusal names it."""
    with pytest.raises(InputError) as caught:
        await events_of(engine, "hi", **change)
    assert caught.value.param == param


async def test_logprobs_are_the_models_own(engine: TextGenerator, reference: Reference) -> None:
    """They come from the raw logits, whatever temperature, cuts and biases choose, with the likeliest first."""
    ids = torch.tensor([reference.prompt("hi")])
    with torch.inference_mode():
        expected = reference.model(ids).logits[0, -1].log_softmax(dim=-1)
    token = ord("q") - ord("!")
    changes = {"temperature": 0.1, "top_p": 0.5, "logit_bias": {token: 100.0}, "max_tokens": 1}
    (item,) = logprobs_of(await events_of(engine, "hi", logprobs=3, **changes))
    best = expected.topk(3)
    assert (item["token"], item["bytes"]) == ("q", [ord("q")])
    assert item["logprob"] == pytest.approx(float(expected[token]), abs=1e-4)
    assert [one["logprob"] for one in item["top"]] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert [one["token"] for one in item["top"]] == [
        reference.tokenizer.decode([one]) for one in best.indices
    ]


async def test_every_token_has_one_and_the_texts_agree(engine: TextGenerator, reference: Reference) -> None:
    """Event by event the tokens' texts join to the text; k is 0 for the chosen token alone; others get none."""
    with_logprobs, without = await asyncio.gather(
        events_of(engine, "hi", logprobs=0), events_of(engine, "hi")
    )
    assert text_of(with_logprobs) == reference.answer("hi")
    for event in with_logprobs:
        assert "".join(item["token"] for item in event["logprobs"]) == event["text"]
    assert all(item["top"] == [] and -20 < item["logprob"] <= 0 for item in logprobs_of(with_logprobs))
    assert all("logprobs" not in event for event in without)


async def test_nothing_of_a_stop_text_has_a_logprob(engine: TextGenerator, reference: Reference) -> None:
    """Tokens from the stop text on are neither sent nor reported."""
    stop = reference.answer("hi")[9:12]
    events = await events_of(engine, "hi", stop=[stop], logprobs=1)
    assert "".join(item["token"] for item in logprobs_of(events)) == text_of(events)
    assert stop not in text_of(events)


def item_of(name: str) -> TokenLogprob:
    """A log probability that can be recognized."""
    return TokenLogprob(token=name, bytes=[], logprob=-math.inf, top=[])


def pushed(tokens: bytes, stops: list[str]) -> tuple[list[list[str]], AnswerText, Alignment]:
    """What becomes ready after each one-byte token."""
    text = AnswerText(lambda ids: bytes(ids).decode(errors="replace"), stops)
    alignment, ready = Alignment(text), []
    for at, token in enumerate(tokens):
        text.push(token)
        alignment.push(item_of(str(at)))
        ready.append([item["token"] for item in alignment.ready()])
    return ready, text, alignment


def test_bytes_of_one_character_go_out_together() -> None:
    """Tokens wait until the character and the text they belong to have been sent."""
    assert pushed("aé!".encode(), [])[0] == [["0"], [], ["1", "2"], ["3"]]


def test_held_back_text_holds_its_tokens_back() -> None:
    """What may begin a stop text waits with its tokens, and what is left at the end comes with the rest."""
    ready, text, alignment = pushed(b"ab-+c-", ["-->"])
    assert ready == [["0"], ["1"], [], ["2", "3"], ["4"], []]
    assert text.flush() == "-"
    assert [item["token"] for item in alignment.rest()] == ["5"]


async def test_a_probability_of_zero_is_a_number(engine: TextGenerator) -> None:
    """No infinity is ever sent, because JSON has none."""
    events = await events_of(engine, "hi", logprobs=20, max_tokens=8)
    assert all(math.isfinite(one["logprob"]) for item in logprobs_of(events) for one in [item, *item["top"]])
