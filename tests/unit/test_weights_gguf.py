# SPDX-License-Identifier: Apache-2.0
"""GGUF files are turned into safetensors once, in a process of their own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer

from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import child, gguf, local, source
from lateen_serving.weights.quota import Room

HIDDEN, LAYERS, WIDE = 32, 1, 64
WORDS = ["<s>", "</s>", *map(chr, range(33, 127)), "Ġ", "ab"]


def save_gguf(path: Path) -> Path:
    """A tiny Llama with random float32 weights and a tokenizer of single letters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(HIDDEN // 2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {"token_embd": (len(WORDS), HIDDEN), "output": (len(WORDS), HIDDEN), "output_norm": (HIDDEN,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes[f"blk.0.{name}"] = (HIDDEN, HIDDEN)
    shapes |= {f"blk.0.{name}": (WIDE, HIDDEN) for name in ("ffn_gate", "ffn_up")}
    shapes |= {"blk.0.ffn_down": (HIDDEN, WIDE), "blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,)}
    generator = torch.Generator().manual_seed(1)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", torch.randn(shape, generator=generator).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    """A node with the claim `m`."""
    (tmp_path / "volumes" / "m").mkdir(parents=True)
    return ServingSettings(volumes=tmp_path / "volumes", model_cache=tmp_path / "cache")


async def test_a_gguf_file_becomes_a_folder_once(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaders that come together share one conversion; the folder loads as any other, as bfloat16."""
    file = save_gguf(settings.volumes / "m" / "tiny.gguf")
    runs = 0
    real = gguf._run

    async def counted(origin: Path, folder: Path, room: Room) -> None:
        nonlocal runs
        runs += 1
        await real(origin, folder, room)

    monkeypatch.setattr(gguf, "_run", counted)
    uris = ("pvc://m", "pvc://m/tiny.gguf", "pvc://m")
    folders = await asyncio.gather(*(source.resolve(WeightsArguments(uri=uri), settings) for uri in uris))
    assert len(set(folders)) == 1
    assert runs == 1
    names = local.names(folders[0])
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    assert not [name for name in names if name.endswith(".gguf")]
    model = AutoModelForCausalLM.from_pretrained(folders[0], dtype="auto")
    assert model.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(folders[0])("ab")["input_ids"]
    file.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(LoadError):
        await source.resolve(WeightsArguments(uri="pvc://m"), settings)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no gguf at all" * 10, b"GGUF" + b"\xff" * 200])
async def test_a_broken_gguf_file(settings: ServingSettings, content: bytes) -> None:
    """Whatever is wrong with it, it is a ModelUnsupported that names the file, and nothing stays behind."""
    (settings.volumes / "m" / "bad.gguf").write_bytes(content)
    with pytest.raises(LoadError, match=r"bad\.gguf") as caught:
        await source.resolve(WeightsArguments(uri="pvc://m"), settings)
    assert caught.value.code == "ModelUnsupported"


async def test_a_file_whose_weights_can_not_be_read(settings: ServingSettings) -> None:
    """A header without a tokenizer is found by the child; its last words are the message."""
    writer = GGUFWriter(settings.volumes / "m" / "odd.gguf", "unheard-of")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(LoadError, match=r"odd\.gguf can't be converted: .*Error") as caught:
        await source.resolve(WeightsArguments(uri="pvc://m"), settings)
    assert caught.value.code == "ModelUnsupported"
    assert not list((settings.model_cache / "scratch").iterdir())
    assert not list((settings.model_cache / "entries").iterdir())


async def test_two_gguf_files_are_ambiguous(settings: ServingSettings) -> None:
    """A folder with several quantizations has to be made unambiguous; beside safetensors they don't matter."""
    folder = settings.volumes / "m"
    for name in ("a.gguf", "b.gguf"):
        (folder / name).touch()
    with pytest.raises(LoadError, match="2 GGUF files") as caught:
        await source.resolve(WeightsArguments(uri="pvc://m"), settings)
    assert caught.value.code == "ModelUnsupported"
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    assert await source.resolve(WeightsArguments(uri="pvc://m"), settings) == folder.resolve()


async def test_a_conversion_that_takes_too_much_memory(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before it starts, with the size it needs."""
    save_gguf(settings.volumes / "m" / "tiny.gguf")
    monkeypatch.setattr(gguf, "available_memory", lambda: 1000)
    with pytest.raises(LoadError, match="of memory") as caught:
        await source.resolve(WeightsArguments(uri="pvc://m"), settings)
    assert caught.value.code == "ModelUnsupported"


def test_the_memory_that_is_free(tmp_path: Path) -> None:
    """The machine's and the control group's, whichever is less; None where neither says."""
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    group.mkdir()
    assert gguf.available_memory(meminfo, group) is None
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 4 kB\n")
    (group / "memory.max").write_text("max\n")
    assert gguf.available_memory(meminfo, group) == 4096
    (group / "memory.max").write_text("3000\n")
    (group / "memory.current").write_text("1000\n")
    assert gguf.available_memory(meminfo, group) == 2000


async def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    """When its standard input closes, a conversion stops: nobody else writes into the next one's folder."""
    file = tmp_path / "pipe.gguf"
    file.touch()
    script = "import sys, time; from lateen_serving.weights import gguf; gguf.convert = lambda *_: time.sleep(600); sys.exit(gguf.main(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(file), str(tmp_path), stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 1


GROWS = """
import os, sys, time
from pathlib import Path
from lateen_serving.weights import child
folder = Path(sys.argv[1])
def grow(_):
    (folder.parent.parent.parent / "pid").write_text(str(os.getpid()))
    with (folder / "model.safetensors").open("wb", buffering=0) as file:
        while True:
            file.write(b"w" * 2**20)
            time.sleep(0.01)
child.serve(grow)
"""
"""A conversion that never stops writing, some 100 MiB/s at most."""


async def test_a_conversion_that_outgrows_the_cache(
    settings: ServingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed as soon as its folder is larger than what the cache has left, and nothing of it stays."""
    save_gguf(settings.volumes / "m" / "tiny.gguf")
    (tmp_path / "growing_conversion.py").write_text(GROWS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    async def grow(origin: Path, folder: Path, room: Room) -> None:
        await child.run("growing_conversion", (str(folder),), folder, room)

    monkeypatch.setattr(gguf, "_run", grow)
    small = settings.model_copy(update={"model_cache_bytes": 5 * 2**20})
    with pytest.raises(LoadError, match="LATEEN_MODEL_CACHE_BYTES") as caught:
        await source.resolve(WeightsArguments(uri="pvc://m"), small)
    assert caught.value.code == "CacheFull"
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    for folder in ("scratch", "entries"):
        assert not list((settings.model_cache / folder).iterdir())
