# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters: the answers are peft's own, in any mixture, and loading and unloading disturb nobody."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, MistralConfig

from engine_models import (
    ADAPTED,
    CONTEXT,
    Reference,
    request,
    save_adapter,
    save_causal,
    save_llama,
)
from lateen_serving.engine import adapter_files
from lateen_serving.engine.adapters import Adapters
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import AdapterWeights
from lateen_serving.errors import ModelError, NotFound

# peft asks transformers in a way that transformers will drop.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def weights(name: str, folder: Path, identity: str = "1") -> AdapterWeights:
    """An adapter as the engine is told of it."""
    return AdapterWeights(name=name, folder=str(folder), identity=identity)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved model."""
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of different shape."""
    place = tmp_path_factory.mktemp("adapters")
    return {
        "red": save_adapter(folder, place / "red", 1),
        "blue": save_adapter(folder, place / "blue", 2, r=2, target_modules=["k_proj", "down_proj"]),
    }


@pytest.fixture(scope="module")
def references(folder: Path, adapters: dict[str, Path]) -> dict[str, Reference]:
    """What transformers and peft answer, without an adapter under the empty name."""
    made = {"": Reference(folder)}
    for name, place in adapters.items():
        made[name] = Reference(folder)
        made[name].model = PeftModel.from_pretrained(made[name].model, place)
    return made


@pytest.fixture
def engine(folder: Path) -> Iterator[TextGenerator]:
    """An engine without adapters."""
    made = asyncio.run(TextGenerator.create(LoadOptions(folder, dtype="float32")))
    yield made
    asyncio.run(made.aclose())


async def answer(engine: TextGenerator, text: str, adapter: str = "", **changes: Any) -> str:
    """The answer with an adapter, or without one."""
    extra = {"adapter": adapter} if adapter else {}
    return "".join([event["text"] async for event in engine.generate(request(text, **extra, **changes))])


async def test_a_mixed_batch_answers_as_each_adapter_alone(
    engine: TextGenerator, adapters: dict[str, Path], references: dict[str, Reference]
) -> None:
    """Rows of two adapters and of none share a batch, and each is token for token what peft generates."""
    assert await engine.set_adapters([weights(*one) for one in adapters.items()]) == {}
    asked = [(text, name) for text in ("hi", "a longer question", "ok") for name in ("red", "", "blue")]
    got = await asyncio.gather(*(answer(engine, *one) for one in asked))
    assert list(got) == [references[name].answer(text) for text, name in asked]
    assert len({references[name].answer("hi") for name in references}) == 3


def test_without_adapters_the_model_is_what_it_was(folder: Path, adapters: dict[str, Path]) -> None:
    """Nothing wraps the model before the first adapter or after the last one, and it can be wrapped again."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    used: list[Any] = [model]
    loaded = Adapters(model, used.append)
    before = [(name, type(module)) for name, module in model.named_modules()]
    assert loaded.names([None, None]) is None
    for key in ("a0", "a1"):
        assert loaded.load(key, adapter_files.read(adapters["red"])) == ""
        assert loaded.names([key, None]) == [key, "__base__"]
        assert used[-1] is not model
        loaded.unload({key})
        assert [(name, type(module)) for name, module in model.named_modules()] == before
        assert used[-1] is model
        assert loaded.names([None]) is None


async def test_an_unknown_adapter_is_named(engine: TextGenerator, adapters: dict[str, Path]) -> None:
    """Before it is loaded and after it is unloaded, requests for an adapter are told that there is none."""
    with pytest.raises(NotFound, match="'red'"):
        await answer(engine, "hi", "red")
    await engine.set_adapters([weights("red", adapters["red"])])
    await answer(engine, "hi", "red")
    await engine.set_adapters([weights("blue", adapters["blue"])])
    with pytest.raises(NotFound, match="'red'"):
        await answer(engine, "hi", "red")


async def test_running_requests_keep_the_adapter_they_began_with(
    engine: TextGenerator, adapters: dict[str, Path], references: dict[str, Reference]
) -> None:
    """Replacing and unloading an adapter waits for the requests that use it; new ones get the new weights."""
    await engine.set_adapters([weights("mine", adapters["red"], "1")])
    running = engine.generate(request("hi", adapter="mine", max_tokens=100))
    text = (await anext(running))["text"]
    assert await engine.set_adapters([weights("mine", adapters["blue"], "2")]) == {}
    replaced = await answer(engine, "hi", "mine")
    await engine.set_adapters([])
    text += "".join([event["text"] async for event in running])
    assert text == references["red"].answer("hi", 100)
    assert replaced == references["blue"].answer("hi")


async def test_the_same_identity_is_not_loaded_again(
    engine: TextGenerator, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """What is there already is left alone, even when its folder is gone."""
    await engine.set_adapters([weights("red", adapters["red"])])
    assert await engine.set_adapters([weights("red", tmp_path / "gone")]) == {}
    assert await answer(engine, "hi", "red")


async def test_an_adapter_that_fails_touches_no_other_row(
    engine: TextGenerator,
    adapters: dict[str, Path],
    references: dict[str, Reference],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own layers raise in the middle of answers: its rows end so, all other rows are answered token for token."""
    broken = ""
    forward = torch.nn.Linear.forward

    def failing(layer: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.shape[-2] == 1 and broken and any(layer is each for each in layers[broken]):
            raise RuntimeError("the adapter's arithmetic failed")
        return forward(layer, hidden)

    layers: dict[str, list[Any]] = {}
    load = Adapters.load

    def loading(self: Adapters, key: str, files: Any) -> str:
        reason = load(self, key, files)
        names = [(name, module) for name, module in self._wrapped.named_modules() if f"lora_A.{key}" in name]
        layers[key] = [module for _, module in names]
        return reason

    monkeypatch.setattr(torch.nn.Linear, "forward", failing)
    monkeypatch.setattr(Adapters, "load", loading)
    assert await engine.set_adapters([weights(*one) for one in adapters.items()]) == {}
    red, _ = layers
    asked = [(text, name) for text in ("hi", "a longer question") for name in ("", "blue")]
    good = [asyncio.create_task(answer(engine, *one, max_tokens=60)) for one in asked]
    running = engine.generate(request("ok", adapter="red", max_tokens=60))
    await anext(running)
    broken = red
    with pytest.raises(ModelError, match="RuntimeError"):
        async for _ in running:
            pass
    assert await asyncio.gather(*good) == [references[name].answer(text, 60) for text, name in asked]
    broken = ""
    assert await answer(engine, "ok", "red") == references["red"].answer("ok")


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _truncated(folder: Path) -> None:
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(whole[:-100])


def _config(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


BROKEN = {
    "pickles": (_pickled, "pickled"),
    "a truncated file": (_truncated, ""),
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json"),
    "another method": (_config(peft_type="IA3"), "IA3"),
    "another rank": (_config(r=3), ""),
    "more modules": (_config(target_modules=["o_proj", *ADAPTED]), "o_proj"),
    "unknown modules": (_config(target_modules=["nowhere"]), "nowhere"),
    "odd modules": (_config(target_modules=["q_proj", "input_layernorm"]), ""),
    "DoRA": (_config(use_dora=True), "use_dora"),
    "a changed base": (_config(init_lora_weights="pissa"), "pissa"),
    "a bias": (_config(bias="all"), "bias"),
    "whole modules": (_config(modules_to_save=["lm_head"]), "modules_to_save"),
    "a huge rank": (_config(r=4096), "4096"),
    "unreadable configuration": (lambda folder: (folder / "adapter_config.json").write_text("["), ""),
}


@pytest.mark.parametrize(("damage", "word"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
async def test_a_broken_adapter_says_why_and_the_others_answer(
    engine: TextGenerator,
    folder: Path,
    adapters: dict[str, Path],
    references: dict[str, Reference],
    tmp_path: Path,
    damage: Any,
    word: str,
    first: bool,
) -> None:
    """Whatever is wrong with an adapter, its reason is one line, it is not there, and nothing else changed."""
    broken = save_adapter(folder, tmp_path / "broken", 3)
    damage(broken)
    good = [weights("red", adapters["red"])]
    failures = await engine.set_adapters(
        [weights("broken", broken), *good] if first else [*good, weights("broken", broken)]
    )
    assert list(failures) == ["broken"]
    assert word in failures["broken"]
    assert failures["broken"]
    assert "\n" not in failures["broken"]
    with pytest.raises(NotFound):
        await answer(engine, "hi", "broken")
    got = await asyncio.gather(answer(engine, "hi"), answer(engine, "hi", "red"))
    assert list(got) == [references[""].answer("hi"), references["red"].answer("hi")]


async def test_an_adapter_that_is_slow_to_read_stalls_no_answer(
    engine: TextGenerator,
    adapters: dict[str, Path],
    references: dict[str, Reference],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While an adapter is still being read, whole and not only mapped, others are answered; then it answers too."""
    read, begun, go_on = adapter_files.read, threading.Event(), threading.Event()

    def slow(folder: Path) -> adapter_files.AdapterFiles:
        begun.set()
        assert go_on.wait(60)
        return read(folder)

    monkeypatch.setattr(adapter_files, "read", slow)
    setting = asyncio.create_task(engine.set_adapters([weights("red", adapters["red"])]))
    assert await asyncio.to_thread(begun.wait, 60)
    async with asyncio.timeout(60):
        assert await answer(engine, "hi") == references[""].answer("hi")
    assert not setting.done()
    go_on.set()
    assert await setting == {}
    assert await answer(engine, "hi", "red") == references["red"].answer("hi")


def test_what_was_read_needs_its_folder_no_more(
    folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """The disk is done with when the torch thread gets an adapter: its file may even have been cut meanwhile."""
    copy = shutil.copytree(adapters["red"], tmp_path / "copy")
    files = adapter_files.read(copy)
    os.truncate(copy / "adapter_model.safetensors", 0)
    shutil.rmtree(copy)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert Adapters(model, lambda _: None).load("a0", files) == ""


async def test_models_whose_cache_cannot_be_joined_take_adapters_too(tmp_path: Path) -> None:
    """A batch of its own has its own adapter."""
    config = MistralConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, sliding_window=16, initializer_range=0.6,
        tie_word_embeddings=False, pad_token_id=257,
    )  # fmt: skip
    folder = save_causal(tmp_path / "model", config)
    adapter = save_adapter(folder, tmp_path / "adapter", 1)
    engine = await TextGenerator.create(LoadOptions(folder, dtype="float32"))
    await engine.set_adapters([weights("red", adapter)])
    got = await asyncio.gather(answer(engine, "hi", "red"), answer(engine, "hi"))
    await engine.aclose()
    reference = Reference(folder)
    plain = reference.answer("hi")
    reference.model = PeftModel.from_pretrained(reference.model, adapter)
    assert list(got) == [reference.answer("hi"), plain]
