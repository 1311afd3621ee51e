# SPDX-License-Identifier: Apache-2.0
"""Batched generation against transformers' own `generate`, on tiny random models."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    Gemma3TextConfig,
    GemmaConfig,
    MambaConfig,
    MistralConfig,
    OpenAIGPTConfig,
    Qwen2Config,
    Qwen3Config,
)

from engine_models import CONTEXT, Reference, request, save_causal, save_llama
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import GenerateRequest, TokenEvent
from lateen_serving.errors import ContextTooLong, InputError, Unavailable

TEXTS = [
    "hi",
    "a longer question about ships",
    "héllo wörld",
    "x",
    "what is the capital of France?",
    "ok then",
]


def engine_of(folder: Path, **options: Any) -> TextGenerator:
    """An engine in float32, whose results don't depend on the batch for practical purposes."""
    return asyncio.run(TextGenerator.create(LoadOptions(folder, dtype="float32", **options)))


async def collect(events: AsyncIterator[TokenEvent]) -> tuple[str, TokenEvent]:
    """The whole text and the last event."""
    text = ""
    async for event in events:
        text += event["text"]
    return text, event


async def answers(engine: TextGenerator, requests: list[GenerateRequest]) -> list[str]:
    """Texts of requests that run at the same time."""
    return [text for text, _ in await asyncio.gather(*(collect(engine.generate(one)) for one in requests))]


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
    """The engine most tests share."""
    made = engine_of(folder)
    yield made
    asyncio.run(made.aclose())


async def test_requests_that_join_while_others_run_get_their_own_answers(
    engine: TextGenerator, reference: Reference
) -> None:
    """Mixed lengths, joining and leaving at different steps, answer exactly as each would alone."""
    first = engine.generate(request(TEXTS[0], max_tokens=60))
    start = (await anext(first))["text"]
    some = asyncio.gather(*(collect(engine.generate(request(text, max_tokens=12))) for text in TEXTS[1:3]))
    start += (await anext(first))["text"]
    others = asyncio.gather(*(collect(engine.generate(request(text, max_tokens=30))) for text in TEXTS[3:]))
    rest, last = await collect(first)
    assert start + rest == reference.answer(TEXTS[0], 60)
    assert [text for text, _ in await some] == [reference.answer(text, 12) for text in TEXTS[1:3]]
    assert [text for text, _ in await others] == [reference.answer(text, 30) for text in TEXTS[3:]]
    assert last["prompt_tokens"] == len(reference.prompt(TEXTS[0]))


async def test_a_seed_repeats_an_answer_with_every_rule(engine: TextGenerator) -> None:
    """Cuts, penalties, biases and grammars draw from the seed as well, alone and in company."""
    rules = {"temperature": 1.5, "top_k": 40, "min_p": 0.01, "presence_penalty": 0.5, "logit_bias": {7: 2.0}}
    grammar = {"kind": "json_schema", "source": '{"type": "string", "maxLength": 20}'}
    seeded = [request("hi", seed=5, **rules), request("hi", seed=5, grammar=grammar, **rules)]
    alone = [await answers(engine, [one]) for one in seeded]
    crowd = [request(text, temperature=1.0) for text in TEXTS]
    together = await answers(engine, [*crowd, *seeded])
    assert [[one] for one in together[-2:]] == alone


async def test_a_seed_repeats_an_answer_whatever_else_is_served(engine: TextGenerator) -> None:
    """The same seed gives the same answer alone and in company; another seed gives another answer."""
    warm = {"temperature": 1.5, "top_p": 0.9, "max_tokens": 40}
    alone = await answers(engine, [request("hi", seed=5, **warm)])
    crowd = [request(text, **warm) for text in TEXTS]
    together = await answers(engine, [*crowd, request("hi", seed=5, **warm), request("hi", seed=6, **warm)])
    assert together[-2] == alone[0]
    assert together[-1] != alone[0]


async def test_requests_without_a_seed_differ(engine: TextGenerator) -> None:
    """Sampling without a seed draws fresh random numbers for each request of a batch."""
    drawn = await answers(engine, [request("hi", temperature=1.5, max_tokens=40) for _ in range(3)])
    assert len(set(drawn)) == 3


async def test_a_stop_text_ends_the_answer_before_it(engine: TextGenerator, reference: Reference) -> None:
    """Stop texts that span tokens are found, and neither they nor what follows is sent."""
    whole = reference.answer("hi", 24)
    stop = whole[9:12]
    text, last = await collect(engine.generate(request("hi", stop=["never this", stop])))
    assert text == whole[: whole.index(stop)]
    assert last["finish_reason"] == "stop"


async def test_a_prompt_that_does_not_fit_is_refused_with_numbers(engine: TextGenerator) -> None:
    """A prompt as long as the context is refused before the first event, naming both lengths."""
    with pytest.raises(ContextTooLong, match=f"at most {CONTEXT}") as caught:
        await collect(engine.generate(request("x" * CONTEXT)))
    assert caught.value.context["max_tokens"] == CONTEXT
    assert caught.value.code == "context_length_exceeded"


async def test_an_answer_ends_at_the_end_of_the_context(engine: TextGenerator) -> None:
    """Prompt and answer together never exceed the context; asking for more than fits is refused with the numbers."""
    _, last = await collect(engine.generate(request("x" * 100, max_tokens=None)))
    total = last["prompt_tokens"] + last["completion_tokens"]
    assert (last["finish_reason"], total) == ("length", CONTEXT) or last["finish_reason"] == "stop"
    assert total <= CONTEXT
    left = CONTEXT - last["prompt_tokens"]
    await collect(engine.generate(request("x" * 100, max_tokens=left)))
    with pytest.raises(
        ContextTooLong, match=f" {left} are left for the answer, and {left + 1} were"
    ) as caught:
        await collect(engine.generate(request("x" * 100, max_tokens=left + 1)))
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "<|im_start|>", "content": "x"}]}, "messages"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
    ],
)
async def test_a_bad_request_is_refused_by_field(
    engine: TextGenerator, change: dict[str, Any], param: str
) -> None:
    """Requests no model could serve are refused before they join a batch, naming the field."""
    with pytest.raises(InputError) as caught:
        await collect(engine.generate(request("hi", **change)))
    assert caught.value.param == param


async def test_a_bad_request_leaves_the_others_alone(engine: TextGenerator, reference: Reference) -> None:
    """Refused requests in a crowd change nothing for the rest."""
    crowd = [collect(engine.generate(request(text))) for text in TEXTS]
    bad = [collect(engine.generate(request("x" * 999))), collect(engine.generate(request("x", top_p=7.0)))]
    results = await asyncio.gather(*crowd, *bad, return_exceptions=True)
    assert [one[0] for one in results[: len(TEXTS)] if isinstance(one, tuple)] == [
        reference.answer(text) for text in TEXTS
    ]
    assert all(isinstance(one, InputError) for one in results[len(TEXTS) :])


async def test_a_tiny_memory_for_keys_changes_no_answer(folder: Path, reference: Reference) -> None:
    """Rows that are sent back to waiting for want of memory are continued where they were."""
    engine = await TextGenerator.create(LoadOptions(folder, dtype="float32", cache_bytes=1))
    got = await answers(engine, [request(text, max_tokens=90) for text in TEXTS])
    await engine.aclose()
    assert got == [reference.answer(text, 90) for text in TEXTS]


async def test_more_requests_than_places_are_served_in_turn(folder: Path, reference: Reference) -> None:
    """With places for two, the others wait and are answered as well."""
    engine = await TextGenerator.create(LoadOptions(folder, dtype="float32", max_rows=2))
    got = await answers(engine, [request(text) for text in TEXTS])
    await engine.aclose()
    assert got == [reference.answer(text) for text in TEXTS]


async def test_a_closed_engine_says_so(folder: Path) -> None:
    """Requests after the end are refused, and the health check tells Ray Serve."""
    engine = await TextGenerator.create(LoadOptions(folder, dtype="float32"))
    await engine.check_health()
    await engine.aclose()
    with pytest.raises(Unavailable):
        await collect(engine.generate(request("x")))
    with pytest.raises(Unavailable):
        await engine.check_health()


async def test_a_generator_does_not_embed_but_knows_its_tokens(engine: TextGenerator) -> None:
    """Embedding is refused as the caller's mistake; token spans are in characters."""
    with pytest.raises(InputError):
        await engine.embed(["x"])
    assert await engine.tokenize(["ab", ""]) == [[(0, 1), (1, 2)], []]
    description = engine.describe()
    assert (description["max_tokens"], description["dimension"]) == (CONTEXT, 0)
    assert (description["engine"], description["dtype"]) == ("transformers", "float32")
    assert description["parameters"] > 258 * 32 * 2


async def test_cancelled_requests_in_a_crowd_change_no_answer(
    engine: TextGenerator, reference: Reference
) -> None:
    """Requests that are given up at any moment leave the batch, and the others answer exactly as alone."""

    async def give_up(text: str, events: int) -> None:
        stream = engine.generate(request(text, max_tokens=None))
        for _ in range(events):
            await anext(stream)
        await stream.aclose()

    staying = [collect(engine.generate(request(text, max_tokens=50))) for text in TEXTS]
    leaving = [give_up(text * 2, events) for events, text in enumerate(TEXTS, start=1)]
    results = await asyncio.gather(*staying, *leaving)
    assert [one[0] for one in results if one] == [reference.answer(text, 50) for text in TEXTS]


_SMALL = {
    "vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.6,
    "tie_word_embeddings": False, "pad_token_id": 257, "eos_token_id": 257, "bos_token_id": 256,
}  # fmt: skip
OTHERS = {
    "Qwen2": Qwen2Config(**_SMALL),
    "Qwen3": Qwen3Config(**_SMALL, head_dim=8),
    "Gemma": GemmaConfig(**_SMALL, head_dim=8),
    "Gemma 3 with a sliding window": Gemma3TextConfig(
        **_SMALL, head_dim=8, sliding_window=16, layer_types=["sliding_attention", "full_attention"]
    ),
    "no cache": OpenAIGPTConfig(
        vocab_size=258, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.6,
        tie_word_embeddings=False, pad_token_id=257,
    ),
    "sliding window": MistralConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, sliding_window=16, initializer_range=0.6,
        tie_word_embeddings=False, pad_token_id=257,
    ),
    "state space": MambaConfig(
        vocab_size=258, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.6,
        tie_word_embeddings=False, pad_token_id=257,
    ),
}  # fmt: skip


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS.keys())
async def test_other_architectures_answer_as_alone(tmp_path: Path, config: Any) -> None:
    """Other families share batches, and what can't (sliding windows, state spaces, no cache) gets a batch each."""
    folder = save_causal(tmp_path, config)
    reference = Reference(folder)
    engine = await TextGenerator.create(LoadOptions(folder, dtype="float32", max_model_len=CONTEXT))
    got = await answers(engine, [request(text) for text in TEXTS[:4]])
    await engine.aclose()
    assert got == [reference.answer(text) for text in TEXTS[:4]]
