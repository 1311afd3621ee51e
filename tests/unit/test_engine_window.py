# SPDX-License-Identifier: Apache-2.0
"""Context windows in an engine: counted with the model's own tokenizer and chat template, exactly as the engine reads."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GemmaConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from engine_models import TEMPLATE, request, save_causal
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rendering import CompiledPrompt, Injection
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.prompt import PromptEncoder
from lateen_serving.engine.protocol import ChatMessage, GenerateRequest
from lateen_serving.engine.window import prepare
from lateen_serving.errors import ContextTooLong
from lateen_serving.gateway import prompting, render
from lateen_serving.gateway.retrieve import numbered
from lateen_serving.rag.passages import Passage

CONTEXT = 512
SMOLLM2_FOLDER = Path(
    os.environ.get("LATEEN_TEST_MODEL", Path.home() / ".cache/lateen/models/smollm2-135m-instruct")
)
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{{ '<|im_start|>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n'"
    " + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
SIZES: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "eos_token_id": 257, "pad_token_id": 257,
    "bos_token_id": 256, "tie_word_embeddings": True,
}  # fmt: skip
KINDS = {
    "smollm2": (LlamaConfig(**SIZES), SMOLLM2),
    "llama": (LlamaConfig(**SIZES), TEMPLATE),
    "qwen": (Qwen2Config(**SIZES), TEMPLATE),
    "gemma": (GemmaConfig(**SIZES, head_dim=8), GEMMA),
}
LINES = [
    "the harbour opens at nine and the lights stay on until the last boat has left",
    "every employee has twenty eight days of paid leave, and unused days expire in march",
    "the heron watches the ships from the pier where the old lamp was mended twice",
]
PASSAGES = [Passage(f"d/{n}.md", f"{n}.md", line, 0.9, "", 0, "") for n, line in enumerate(LINES)]
SPEC: dict[str, Any] = {
    "version": "1",
    "messages": [{"role": "user", "content": "Use these:\n{context}\n\nAnswer: {question}"}],
    "variables": [{"name": "question"}, {"name": "context", "from": "retrieval"}],
    "contextWindow": {"overflow": "Truncate", "priority": ["question", "context", "conversation"]},
}


def save(folder: Path, config: Any, template: str) -> Path:
    """A random model with a tokenizer whose words are trained, so that texts' counts don't add up."""
    save_causal(folder, config)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=398, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        model_max_length=CONTEXT,
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of each family."""
    config, template = KINDS[request.param]
    return save(tmp_path_factory.mktemp(request.param), config, template)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TextGenerator]:
    """Its engine."""
    made = asyncio.run(TextGenerator.create(LoadOptions(folder, dtype="float32")))
    yield made
    asyncio.run(made.aclose())


def asked(conversation: list[ChatMessage], question: str = "when?", **window: Any) -> GenerateRequest:
    """A request as the gateway makes it for the prompt, the passages and what the caller said."""
    document = SPEC | {"contextWindow": SPEC["contextWindow"] | window}
    if window.get("overflow") == "Refuse":
        del document["contextWindow"]["priority"]
    spec = PromptTemplateSpec.model_validate(document)
    template, values = CompiledPrompt(spec), {"question": question}
    injection = Injection(retrieved=numbered(PASSAGES))
    prompt = prompting.prompt_messages(template, values, injection)
    made = request("", max_tokens=4, messages=render.messages(prompt, conversation, None, None))
    found = prompting.window(template, values, injection, PASSAGES, conversation, None, None)
    assert found is not None
    made["window"] = found
    return made


def said(turns: int) -> list[ChatMessage]:
    """An answer to the prompt, then so many turns more, the last one the user's."""
    messages: list[ChatMessage] = []
    for number in range(turns):
        messages += [
            {"role": "assistant", "content": f"answer {number}: {LINES[number % 3]}"},
            {"role": "user", "content": f"and then {number}?"},
        ]
    return messages


def reference(folder: Path, messages: list[ChatMessage]) -> int:
    """Tokens of a conversation as transformers counts them."""
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [dict(message) for message in messages], add_generation_prompt=True, return_dict=False
    )
    return len(ids)


@pytest.mark.skipif(not SMOLLM2_FOLDER.is_dir(), reason="hack/prepare all has not fetched the model")
@pytest.mark.parametrize("limit", range(20, 140, 3))
def test_the_real_smollm2_is_counted_as_transformers_counts_it(limit: int) -> None:
    """With the weights' own tokenizer and template a cut prompt has exactly the tokens told, and all the room is used."""
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(SMOLLM2_FOLDER))
    one = asked(said(2), maxPromptTokens=limit)
    try:
        prompt = prepare(encoder, one, CONTEXT)
    except ContextTooLong:
        prompt = None
    if prompt is None:
        assert limit < 90
        return
    assert len(prompt.tokens) == reference(SMOLLM2_FOLDER, prompt.messages) <= limit
    if any(cut["unit"] == "characters" for cut in prompt.cut):
        assert len(prompt.tokens) > limit - 20


@pytest.mark.parametrize("limit", [400, 300, 200, 140, 100, 90])
async def test_what_is_counted_is_what_is_read(engine: TextGenerator, folder: Path, limit: int) -> None:
    """At every bound the count, transformers' own and the engine's accounting of the answer are the same, and fit."""
    one = asked([], maxPromptTokens=limit)
    counted = await engine.count(one)
    events = [event async for event in engine.generate(one)]
    assert counted["tokens"] == reference(folder, counted["messages"]) == events[-1]["prompt_tokens"]
    assert counted["tokens"] <= limit
    assert events[0].get("cut", []) == counted["cut"]
    assert all("cut" not in event for event in events[1:])
    whole = reference(folder, one["messages"])
    assert bool(counted["cut"]) == (whole > limit)
    if whole <= limit:
        assert counted["messages"] == one["messages"]


async def test_passages_go_whole_before_words_of_the_best(engine: TextGenerator) -> None:
    """Smaller and smaller windows lose the worst passage, the next, then words of the best; the question stays."""
    kept = []
    for limit in range(200, 10, -3):
        try:
            counted = await engine.count(asked([], maxPromptTokens=limit))
        except ContextTooLong:
            break
        content = counted["messages"][0]["content"]
        assert content.endswith("Answer: when?")
        kept.append([cut["after"] for cut in counted["cut"] if cut["unit"] == "passages"] or [3])
    order = [number for (number,) in kept]
    assert order == sorted(order, reverse=True)
    assert set(order) == {3, 2, 1, 0}


async def test_refusing_names_the_numbers(engine: TextGenerator, folder: Path) -> None:
    """A prompt that may not be cut, and one that can't be cut enough, are refused with the counts and the bounds."""
    one = asked([], overflow="Refuse", maxPromptTokens=50, reserveOutputTokens=100)
    tokens = reference(folder, one["messages"])
    with pytest.raises(ContextTooLong, match=f"{tokens} tokens; at most 50 fit") as caught:
        await engine.count(one)
    assert "100 are kept for the answer" in caught.value.message
    assert caught.value.context == {"prompt_tokens": tokens, "least": tokens, "limit": 50}
    with pytest.raises(ContextTooLong, match="without everything that may be cut; at most 5 fit"):
        await engine.count(asked([], maxPromptTokens=5))
    with pytest.raises(ContextTooLong, match="leave none for the prompt"):
        await engine.count(asked([], reserveOutputTokens=CONTEXT))


async def test_the_answer_keeps_its_room(engine: TextGenerator, folder: Path) -> None:
    """The reserve and the tokens that the request asks for stay free of the model's context."""
    room = reference(folder, asked([])["messages"]) - 5
    counted = await engine.count(asked([], reserveOutputTokens=CONTEXT - room))
    assert counted["cut"]
    assert counted["tokens"] <= room
    longer = asked([])
    longer["max_tokens"] = CONTEXT - room
    events = [event async for event in engine.generate(longer)]
    assert events[0]["cut"]
    assert events[-1]["prompt_tokens"] <= room


async def test_the_oldest_turns_go_first(engine: TextGenerator) -> None:
    """A long conversation loses its oldest turns and stays one that the model's template takes."""
    conversation: list[ChatMessage] = said(6)
    counted = await engine.count(asked(conversation, maxPromptTokens=260))
    left = counted["messages"][1:]
    assert counted["cut"][0]["what"] == "conversation"
    assert left == conversation[len(conversation) - len(left) :]
    assert left[-1] == conversation[-1]
