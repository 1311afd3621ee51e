# SPDX-License-Identifier: Apache-2.0
"""What the vLLM engine makes of requests and outputs; vLLM itself is not needed."""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher

from engine_models import request, save_llama
from lateen_serving.engine import vllm_mapping
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import AdapterWeights, TokenEvent
from lateen_serving.engine.vllm import VllmGenerator, count_parameters, engine_arguments, lora_request
from lateen_serving.engine.vllm_adapters import Adapters
from lateen_serving.errors import (
    InputError,
    LoadError,
    ModelError,
    NotFound,
    Overloaded,
    ReplicaLost,
    Unavailable,
)

WORDS = ["", "Hello", " wor", "ld", ", bye", "!", "<end>"]
END = 6


def decode(tokens: Any) -> str:
    """Texts of the words, end tokens left out."""
    return "".join(WORDS[token] for token in tokens if token != END)


def bytes_of(token: int) -> bytes:
    """Bytes of a word."""
    return WORDS[token].encode()


@dataclass
class Likely:
    """As vLLM's Logprob."""

    logprob: float


@dataclass
class Output:
    """As vLLM's CompletionOutput."""

    token_ids: list[int]
    logprobs: list[dict[int, Likely]] | None = None
    finish_reason: str | None = None


def answer_of(*outputs: Output, **changes: Any) -> list[TokenEvent]:
    """The events of an answer."""
    answer = vllm_mapping.Answer(request("hi", **changes), 5, decode, bytes_of)
    events = [answer.push(output, 3) for output in outputs]
    return [event for event in events if event is not None]


def test_defaults_are_spelled_out() -> None:
    """A bare request is greedy, unbiased and unpenalised, and vLLM does not decode."""
    assert vllm_mapping.sampling(request("hi"), 24) == {
        "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "logit_bias": None, "seed": None, "max_tokens": 24, "logprobs": None,
        "detokenize": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field_name", "value", "expected"),
    [
        ("temperature", 0.7, 0.7),
        ("top_p", 0.9, 0.9),
        ("top_k", 40, 40),
        ("min_p", 0.1, 0.1),
        ("presence_penalty", 1.5, 1.5),
        ("frequency_penalty", -1.0, -1.0),
        ("logit_bias", {7: -100.0}, {7: -100.0}),
        ("seed", 11, 11),
        ("seed", -1, 2**63 - 1),
        ("seed", 2**64, 0),
        ("logprobs", 0, 0),
        ("logprobs", 5, 5),
    ],
)
def test_sampling_fields(field_name: str, value: Any, expected: Any) -> None:
    """Each field reaches vLLM under its name; seeds stay within what vLLM takes for seeds."""
    assert vllm_mapping.sampling(request("hi", **{field_name: value}), 1)[field_name] == expected


@pytest.mark.parametrize(
    ("grammar", "schema"),
    [
        ({"kind": "json_object", "source": ""}, {"type": "object"}),
        ({"kind": "json_schema", "source": '{"type":"string"}'}, {"type": "string"}),
    ],
)
def test_json_has_bounded_white_space(grammar: Any, schema: dict[str, Any]) -> None:
    """Objects and schemas become a schema that llguidance compiles, and that ends a run of spaces."""
    arguments = vllm_mapping.grammar(request("hi", grammar=grammar))
    assert arguments is not None
    given = json.loads(arguments["json"])
    assert given.pop("x-guidance") == {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,32}"}
    assert given == schema
    compiled = LLMatcher.grammar_from_json_schema(arguments["json"], defaults={"whitespace_flexible": True})
    assert LLMatcher.validate_grammar(compiled, None) == ""


def test_a_schema_that_is_no_strict_one_stays_so() -> None:
    """What the gateway says of a schema reaches llguidance through vLLM too."""
    source = json.dumps({"type": "object", "x-guidance": {"lenient": True}})
    arguments = vllm_mapping.grammar(request("hi", grammar={"kind": "json_schema", "source": source}))
    assert arguments is not None
    assert json.loads(arguments["json"])["x-guidance"]["lenient"] is True


def test_other_grammars() -> None:
    """A grammar goes to vLLM as it is; a request without one is free."""
    lark = {"kind": "lark", "source": 'start: "a"'}
    assert vllm_mapping.grammar(request("hi", grammar=lark)) == {"grammar": 'start: "a"'}
    assert vllm_mapping.grammar(request("hi")) is None


@pytest.mark.parametrize("source", ["{", "[]", "[" * 100_000])
def test_what_is_no_schema(source: str) -> None:
    """It is the caller's mistake, and named."""
    with pytest.raises(InputError) as caught:
        vllm_mapping.grammar(request("hi", grammar={"kind": "json_schema", "source": source}))
    assert caught.value.param == "response_format"


def test_an_answer_that_ends_by_itself() -> None:
    """Tokens that came together make one event; the end token counts but is no text."""
    events = answer_of(Output([1]), Output([2, 3]), Output([END], finish_reason="stop"))
    assert [event["text"] for event in events] == ["Hello", " world", ""]
    assert [event["completion_tokens"] for event in events] == [1, 3, 4]
    assert events[-1] == {
        "text": "", "prompt_tokens": 5, "completion_tokens": 4, "cached_tokens": 3, "finish_reason": "stop"
    }  # fmt: skip


def test_an_answer_that_reaches_its_limit() -> None:
    """The last token is text, and what was held back for a stop text goes out."""
    events = answer_of(Output([1]), Output([2], finish_reason="length"), stop=[" word"])
    assert [event["text"] for event in events] == ["Hello", " wor"]
    assert events[-1].get("finish_reason") == "length"


def test_a_stop_text_across_tokens_ends_the_answer() -> None:
    """Nothing from the stop text on is sent, and later tokens are not looked at."""
    events = answer_of(Output([1]), Output([2]), Output([3, 4]), stop=["orl"])
    assert "".join(event["text"] for event in events) == "Hello w"
    assert events[-1].get("finish_reason") == "stop"
    assert events[-1]["completion_tokens"] == 3


def test_log_probabilities_go_with_their_text() -> None:
    """They wait until the text of their tokens is decided; impossible tokens are very unlikely, not infinitely."""
    likely = {2: Likely(-0.1), 4: Likely(-2.0), 3: Likely(float("-inf"))}
    events = answer_of(
        Output([1], [{1: Likely(-0.5)}]),
        Output([2], [likely]),
        Output([3], [{3: Likely(-1.0), 1: Likely(-0.2)}], "length"),
        stop=[" word"],
        logprobs=3,
    )
    assert [len(event.get("logprobs", [])) for event in events] == [1, 2]
    first, last = events[1]["logprobs"]
    assert (first["token"], first["bytes"], first["logprob"]) == (" wor", list(b" wor"), -0.1)
    assert [(one["token"], one["logprob"]) for one in first["top"]] == [
        (" wor", -0.1),
        (", bye", -2.0),
        ("ld", -9999.0),
    ]
    assert [one["token"] for one in last["top"]] == ["Hello", "ld"]


def test_a_token_of_a_stop_text_takes_its_log_probability_along() -> None:
    """What is not sent as text is not sent as log probabilities."""
    likely = [{1: Likely(-0.5)}], [{2: Likely(-0.5)}], [{3: Likely(-0.5)}]
    events = answer_of(*(Output([at + 1], one) for at, one in enumerate(likely)), stop=[" world"], logprobs=0)
    assert [one["token"] for event in events for one in event.get("logprobs", [])] == ["Hello"]


@pytest.mark.parametrize(("reason", "error"), [("abort", Unavailable), ("error", ModelError)])
def test_an_answer_that_vllm_gives_up(reason: str, error: type[Exception]) -> None:
    """Never the end of a good answer: an error."""
    with pytest.raises(error):
        answer_of(Output([1], finish_reason=reason))


class VLLMClientError(Exception):
    """As vLLM's."""


class VLLMValidationError(VLLMClientError):
    """As vLLM's."""

    parameter: str | None = None


class EngineDeadError(Exception):
    """As vLLM's."""


class GracefulHTTPError(Exception):
    """As vLLM's."""


def test_errors_of_vllm() -> None:
    """The caller's mistakes, a full queue, a dead engine and a failed request are told apart."""
    named = VLLMValidationError("top_k must be 0 (disable), or at least 1")
    named.parameter = "top_k"
    translated = vllm_mapping.translated(named, request("hi"))
    assert isinstance(translated, InputError)
    assert translated.param == "top_k"
    assert "at least 1" in translated.message
    constrained = request("hi", grammar={"kind": "lark", "source": "x"})
    refused = vllm_mapping.translated(VLLMValidationError("Grammar error"), constrained)
    assert isinstance(refused, InputError)
    assert refused.param == "response_format"
    assert isinstance(vllm_mapping.translated(EngineDeadError(), request("hi")), ReplicaLost)
    assert isinstance(vllm_mapping.translated(GracefulHTTPError(), request("hi")), Overloaded)
    assert isinstance(vllm_mapping.translated(RuntimeError("secret"), request("hi")), ModelError)
    assert "secret" not in vllm_mapping.translated(RuntimeError("secret"), request("hi")).message
    ours = NotFound("no adapter")
    assert vllm_mapping.translated(ours, request("hi")) is ours


@dataclass
class FakeEngine:
    """Remembers the LoRA requests it was given; the folder `bad` can't be loaded."""

    loaded: dict[int, tuple[str, int, str]] = field(default_factory=dict)
    added: asyncio.Event = field(default_factory=asyncio.Event)

    async def add_lora(self, lora: tuple[str, int, str]) -> bool:
        if lora[2] == "bad":
            raise RuntimeError("Call to add_lora method failed: rank 99 is too high")
        self.loaded[lora[1]] = lora
        self.added.set()
        return True

    async def remove_lora(self, number: int) -> bool:
        del self.loaded[number]
        return True


def weights(name: str, folder: str, identity: str = "1") -> AdapterWeights:
    """An adapter."""
    return {"name": name, "folder": folder, "identity": identity}


def lora(name: str, number: int, folder: str) -> tuple[str, int, str]:
    """As vLLM's LoRARequest."""
    return name, number, folder


async def test_adapters_are_exactly_those_named() -> None:
    """New ones are loaded, known ones left alone, others unloaded; one that fails is reported with its reason."""
    engine = FakeEngine()
    adapters = Adapters(engine, lora)
    failures = await adapters.set([weights("a", "/a"), weights("b", "bad"), weights("c", "/c")])
    assert failures == {"b": "Call to add_lora method failed: rank 99 is too high"}
    assert [one[2] for one in engine.loaded.values()] == ["/a", "/c"]
    before = dict(engine.loaded)
    assert await adapters.set([weights("a", "/a")]) == {}
    assert list(engine.loaded.values()) == [one for one in before.values() if one[2] == "/a"]
    with pytest.raises(NotFound):
        async with adapters.use("c"):
            pass
    async with adapters.use(None) as bare:
        assert bare is None


async def test_an_adapter_in_use_ends_with_its_last_request() -> None:
    """New weights answer at once under another name in vLLM's cache; the old ones go when nobody uses them."""
    engine = FakeEngine()
    adapters = Adapters(engine, lora)
    await adapters.set([weights("a", "/old")])
    async with adapters.use("a") as old:
        engine.added.clear()
        changing = asyncio.create_task(adapters.set([weights("a", "/new", "2")]))
        await engine.added.wait()
        async with adapters.use("a") as new:
            assert (old[2], new[2]) == ("/old", "/new")
            assert old[0] != new[0]
        assert not changing.done()
    assert await changing == {}
    assert [one[2] for one in engine.loaded.values()] == ["/new"]


def test_an_adapter_of_pickled_weights_is_refused(tmp_path: Path) -> None:
    """Its folder holds none that are safe to read, and vLLM is not asked."""
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(LoadError, match="pickled weights are refused"):
        lora_request("a", 1, str(tmp_path))


def test_what_vllm_is_started_with() -> None:
    """Pickles and remote code are out of the question; memory and rows are the options'."""
    options = LoadOptions(Path("/m"), dtype="bfloat16", max_model_len=512, max_rows=7, cache_bytes=5)
    arguments = engine_arguments(options)
    assert (arguments["load_format"], arguments["trust_remote_code"]) == ("safetensors", False)
    assert (arguments["max_model_len"], arguments["max_num_seqs"]) == (512, 7)
    assert arguments["kv_cache_memory_bytes"] == 5
    assert engine_arguments(LoadOptions(Path("/m")))["kv_cache_memory_bytes"] == 2**30
    assert engine_arguments(LoadOptions(Path("/m"), device="cuda"))["kv_cache_memory_bytes"] is None


def test_parameters_are_counted_from_the_files(tmp_path: Path) -> None:
    """All elements of all tensors, without reading them."""
    import torch

    folder = save_llama(tmp_path)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert count_parameters(folder) == sum(tensor.numel() for tensor in model.parameters())


async def test_a_node_without_vllm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the remedy."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(LoadError, match="not installed on this node") as caught:
        await VllmGenerator.create(LoadOptions(tmp_path))
    assert caught.value.code == "ModelUnsupported"
