# SPDX-License-Identifier: Apache-2.0
"""The vLLM engine for real, on a node that has vLLM; on a CPU it starts in one to five minutes.

Weights: `hack/prepare weights` puts them where these tests look, or LATEEN_TEST_MODEL names a folder.
"""

import asyncio
import importlib.util
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
import torch

from engine_models import request
from lateen_serving.engine.options import Device, LoadOptions
from lateen_serving.engine.protocol import AdapterWeights, GenerateRequest, TokenEvent
from lateen_serving.engine.vllm import VllmGenerator
from lateen_serving.errors import ContextTooLong, InputError, NotFound, Unavailable
from unit.test_engine_window import asked, reference, said

FOLDER = Path(os.environ.get("LATEEN_TEST_MODEL", Path.home() / ".cache/lateen/models/smollm2-135m-instruct"))
CONTEXT = 2048
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no weights in {FOLDER}"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
]
QUESTION = "Tell me about the sea."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmGenerator]:
    """The engine that all tests share; its processes are ended by the last of them."""
    started = time.monotonic()
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    options = LoadOptions(FOLDER, device=device, dtype="bfloat16", max_model_len=CONTEXT, threads=2)
    made = await VllmGenerator.create(options)
    note(f"vLLM loaded in {time.monotonic() - started:.1f} s: {made.describe()}")
    yield made
    await made.aclose()


def note(figure: str) -> None:
    """Show a figure with `pytest -s`."""
    sys.stdout.write(f"\n{figure}\n")


async def collect(engine: VllmGenerator, wanted: GenerateRequest) -> list[TokenEvent]:
    """All events of an answer."""
    return [event async for event in engine.generate(wanted)]


async def answer(engine: VllmGenerator, text: str = QUESTION, **changes: Any) -> str:
    """The text of an answer."""
    return "".join(event["text"] for event in await collect(engine, request(text, **changes)))


async def test_facts(engine: VllmGenerator) -> None:
    """The engine says what it serves."""
    facts = engine.describe()
    assert (facts["engine"], facts["dtype"], facts["max_tokens"]) == ("vllm", "bfloat16", CONTEXT)
    assert facts["parameters"] > 1e6


async def test_logprobs_are_those_of_transformers(engine: VllmGenerator) -> None:
    """For each token of a greedy answer transformers, reading the same, finds nearly the same log probability."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    events = await collect(engine, request(QUESTION, logprobs=2))
    said = [one for event in events for one in event.get("logprobs", [])]
    assert bytes(byte for one in said for byte in one["bytes"]).decode() == "".join(e["text"] for e in events)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        request(QUESTION)["messages"], add_generation_prompt=True, return_dict=False
    )
    assert events[0]["prompt_tokens"] == len(prompt)
    ids = [engine._parts.vocabulary.guide.tokenize_bytes(bytes(one["bytes"])) for one in said]
    assert all(len(one) == 1 for one in ids)
    tokens = [one[0] for one in ids]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1)[range(len(tokens)), tokens]
    assert max(abs(one["logprob"] - float(two)) for one, two in zip(said, expected, strict=True)) < 0.35
    for one in said:
        assert len(one["top"]) == 2
        assert one["top"][0]["logprob"] >= one["top"][1]["logprob"]


async def test_a_stop_text_ends_the_answer_before_it(engine: VllmGenerator) -> None:
    """Wherever the stop text lies across tokens, the answer ends before it and vLLM works on."""
    whole = await answer(engine)
    stop = whole[9:16]
    events = await collect(engine, request(QUESTION, stop=[stop]))
    assert "".join(event["text"] for event in events) == whole[: whole.index(stop)]
    assert events[-1].get("finish_reason") == "stop"
    assert engine._engine.get_num_unfinished_requests() == 0


async def test_length_and_counts(engine: VllmGenerator) -> None:
    """An answer ends at its limit, and a repeated prompt is found in the cache."""
    long = QUESTION * 60
    for _ in range(2):
        last = (await collect(engine, request(long, max_tokens=5)))[-1]
    assert (last.get("finish_reason"), last["completion_tokens"]) == ("length", 5)
    assert last.get("cached_tokens", 0) > 0


async def test_seeds(engine: VllmGenerator) -> None:
    """The same seed gives the same answer, another one another."""
    first, again, other = [await answer(engine, temperature=1.0, seed=seed) for seed in (7, 7, -1)]
    assert first == again != other
    assert other == await answer(engine, temperature=1.0, seed=-1)


async def test_grammars(engine: VllmGenerator) -> None:
    """JSON objects, schemas and grammars hold; one that can't be compiled is the caller's mistake."""
    schema = {
        "type": "object",
        "properties": {"deep": {"type": "boolean"}, "name": {"enum": ["sea", "lake"]}},
        "required": ["deep", "name"],
        "additionalProperties": False,
    }
    grammar = {"kind": "json_schema", "source": json.dumps(schema)}
    parsed = json.loads(await answer(engine, max_tokens=500, grammar=grammar))
    assert sorted(parsed) == ["deep", "name"]
    lark = {"kind": "lark", "source": 'start: "yes" | "no"'}
    assert await answer(engine, grammar=lark) in {"yes", "no"}
    text = await answer(engine, max_tokens=4, grammar={"kind": "json_object", "source": ""})
    assert text.lstrip().startswith("{")
    with pytest.raises(InputError, match="not usable"):
        await answer(engine, grammar={"kind": "lark", "source": "start: nowhere"})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"logit_bias": {10**7: 1.0}}, "logit_bias"),
        ({"temperature": 3.0}, "temperature"),
        ({"logprobs": 99}, "logprobs"),
    ],
)
async def test_what_vllm_refuses_is_an_input_error(
    engine: VllmGenerator, changes: dict[str, Any], param: str
) -> None:
    """The error names the field; the next request is served."""
    with pytest.raises(InputError) as caught:
        await answer(engine, **changes)
    assert caught.value.param == param
    assert await answer(engine)


async def test_logit_bias_and_bare_text(engine: VllmGenerator) -> None:
    """A bias decides the tokens; bare text is continued without a template."""
    token = engine._parts.vocabulary.guide.tokenize_str(" sea")[0]
    events = await collect(
        engine, request("", messages=[], prompt="The", max_tokens=3, logit_bias={token: 100.0})
    )
    assert "".join(event["text"] for event in events) == " sea sea sea"
    assert events[0]["prompt_tokens"] == 1


async def test_a_prompt_beyond_the_context(engine: VllmGenerator) -> None:
    """It is refused before vLLM sees it."""
    with pytest.raises(ContextTooLong):
        await answer(engine, "sea " * CONTEXT)


@pytest.mark.parametrize("limit", [400, 150, 100])
async def test_what_is_counted_is_what_vllm_reads(engine: VllmGenerator, limit: int) -> None:
    """A prompt that is cut to its window is counted as transformers counts it, and vLLM reads no more and no less."""
    wanted = asked(said(2), maxPromptTokens=limit)
    counted = await engine.count(wanted)
    events = await collect(engine, wanted)
    assert counted["tokens"] == reference(FOLDER, counted["messages"]) == events[-1]["prompt_tokens"] <= limit
    assert events[0].get("cut", []) == counted["cut"]
    assert all("cut" not in event for event in events[1:])
    assert bool(counted["cut"]) == (reference(FOLDER, wanted["messages"]) > limit)


async def test_a_window_that_does_not_suffice(engine: VllmGenerator) -> None:
    """A prompt that may not be cut is refused with its numbers, and by `count` as by `generate`."""
    refusing = asked([], overflow="Refuse", maxPromptTokens=50)
    for work in (engine.count(refusing), collect(engine, refusing)):
        with pytest.raises(ContextTooLong, match="at most 50 fit") as caught:
            await work
        assert caught.value.param == "messages"
    with pytest.raises(ContextTooLong, match="leave none for the prompt"):
        await engine.count(asked([], reserveOutputTokens=CONTEXT))


async def test_bare_text_is_counted(engine: VllmGenerator) -> None:
    """`count` of bare text is that of its tokens, without messages; what can't be answered is refused."""
    assert await engine.count(request("", messages=[], prompt="The")) == {
        "messages": [],
        "tokens": 1,
        "cut": [],
    }
    with pytest.raises(ContextTooLong) as caught:
        await engine.count(request("", messages=[], prompt="sea " * CONTEXT))
    assert caught.value.param == "prompt"


async def test_closing_an_answer_aborts_it(engine: VllmGenerator) -> None:
    """When the reader goes, vLLM stops; others are not disturbed."""
    other = asyncio.create_task(answer(engine))
    events = engine.generate(request(QUESTION, max_tokens=1500, logit_bias={2: -100.0}))
    await anext(events)
    await events.aclose()
    assert await other
    assert engine._engine.get_num_unfinished_requests() == 0


def save_adapter(folder: Path, seed: int, rank: int = 4) -> AdapterWeights:
    """A LoRA adapter of random weights, strong enough to change answers."""
    from safetensors.numpy import save_file

    config = json.loads((FOLDER / "config.json").read_text())
    hidden, dice = config["hidden_size"], np.random.default_rng(seed)
    folder.mkdir()
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{prefix}.lora_A.weight"] = dice.normal(0, 0.3, (rank, hidden)).astype(np.float32)
        tensors[f"{prefix}.lora_B.weight"] = dice.normal(0, 0.3, (hidden, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank}
    (folder / "adapter_config.json").write_text(
        json.dumps(settings | {"target_modules": ["o_proj"], "bias": "none"})
    )
    return {"name": folder.name, "folder": str(folder), "identity": str(seed)}


async def test_adapters_come_and_go(engine: VllmGenerator, tmp_path: Path) -> None:
    """Adapters answer in one batch with the bare model; a broken one is reported; unloaded ones are not found."""
    bare = await answer(engine)
    one, two = save_adapter(tmp_path / "one", 1), save_adapter(tmp_path / "two", 2)
    broken: AdapterWeights = {"name": "broken", "folder": str(tmp_path / "none"), "identity": "x"}
    wide = save_adapter(tmp_path / "wide", 3, rank=100)
    failures = await engine.set_adapters([one, two, broken, wide])
    assert sorted(failures) == ["broken", "wide"]
    mixed = await asyncio.gather(answer(engine), answer(engine, adapter="one"), answer(engine, adapter="two"))
    # Only beginnings are compared: in bfloat16 a batch rounds otherwise than a request alone.
    assert len({text[:20] for text in mixed}) == 3
    assert mixed[0][:20] == bare[:20]
    assert await engine.set_adapters([two]) == {}
    with pytest.raises(NotFound):
        await answer(engine, adapter="one")
    assert (await answer(engine, adapter="two"))[:5] == mixed[2][:5]
    changed: AdapterWeights = {"name": "two", "folder": one["folder"], "identity": "new"}
    assert await engine.set_adapters([changed]) == {}
    assert (await answer(engine, adapter="two"))[:5] == mixed[1][:5]
    assert await engine.set_adapters([]) == {}


async def test_speed(engine: VllmGenerator) -> None:
    """One stream and eight; the figures are printed, only their meaning is checked."""
    for streams in (1, 8):
        started = time.monotonic()
        wanted = [request(f"{number}: {QUESTION}", max_tokens=64) for number in range(streams)]
        answers = await asyncio.gather(*(collect(engine, one) for one in wanted))
        tokens = sum(events[-1]["completion_tokens"] for events in answers)
        note(f"{streams} streams: {tokens / (time.monotonic() - started):.1f} tokens/s")
        assert 0 < tokens <= 64 * streams


async def test_the_end(engine: VllmGenerator) -> None:
    """When vLLM's processes die, a running answer ends with an error and the replica is unhealthy."""
    await engine.check_health()
    running = engine.generate(request(QUESTION, max_tokens=1500, logit_bias={2: -100.0}))
    await anext(running)
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.kill()
    with pytest.raises(Unavailable):
        async for _ in running:
            pass
    with pytest.raises(Unavailable):
        await engine.check_health()
    with pytest.raises(Unavailable):
        await answer(engine)
    await engine.aclose()
    assert not psutil.wait_procs(children, timeout=30)[1]
