# SPDX-License-Identifier: Apache-2.0
"""Turns a GGUF file into a safetensors folder, once, in a process of its own. Called by `source.py`.

The child (`python -m lateen_serving.weights.gguf FILE FOLDER`) gives its memory back when it is done, and a file that
breaks the reader breaks nothing else.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from lateen_serving.errors import LoadError
from lateen_serving.weights import cache, child, local
from lateen_serving.weights.cache import Cache, Use
from lateen_serving.weights.quota import Room
from lateen_serving.weights.selection import gguf

_RECIPE = "gguf to bfloat16 safetensors, 1"
"""Part of the key: a changed conversion makes a new entry."""

_BYTES_PER_WEIGHT = 6
"""The reader holds every weight as float32 while the model fills with bfloat16."""


def key(origin: str) -> str:
    """The key of what is made from the origin that has the key `origin`."""
    return cache.key((_RECIPE, origin))


def find(place: Path) -> Path | None:
    """The GGUF file that `place` is, or has instead of safetensors; None where it has safetensors."""
    if place.is_file():
        return place
    names = local.names(place)
    if any(name.endswith(".safetensors") for name in names):
        return None
    name = gguf(names)
    return None if name is None else place / name


def identity(file: Path) -> str:
    """A key for a file of the node that changes whenever the file is written."""
    about = file.stat()
    return cache.key(("file", str(file), str(about.st_size), str(about.st_mtime_ns)))


async def converted(file: Path, origin: str, store: Cache) -> Use:
    """The folder made from `file`, whose content `origin` stands for; one process makes it while others wait.

    Raises LoadError ModelUnsupported for a file that is broken, of an architecture that can't be read, or too large
    to be converted in the memory that is free; CacheFull when the disk is.
    """
    weights = await asyncio.to_thread(_count, file)
    _check_memory(weights * _BYTES_PER_WEIGHT, file.name)

    async def fill(folder: Path, room: Room) -> None:
        await _run(file, folder, room)

    return await store.obtain(key(origin), weights * 2, fill)


async def _run(file: Path, folder: Path, room: Room) -> None:
    try:
        await child.run(__name__, (str(file), str(folder)), folder, room)
    except child.Failed as failed:
        why = "it was killed, most likely for want of memory" if failed.killed else failed.words
        raise LoadError(f"{file.name} can't be converted: {why}", code="ModelUnsupported") from failed


def _count(file: Path) -> int:
    """Number of weights in a file, from its header."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise LoadError(
            "GGUF weights need the package gguf on the Ray nodes", code="ModelUnsupported"
        ) from error
    try:
        return sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)
    except Exception as error:
        raise LoadError(
            f"{file.name} is a broken GGUF file ({type(error).__name__})", code="ModelUnsupported"
        ) from error


def _check_memory(needed: int, name: str) -> None:
    free = available_memory()
    if free is not None and needed > free:
        raise LoadError(
            f"converting {name} takes {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free;"
            " give safetensors instead",
            code="ModelUnsupported",
        )


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes this process may still take, of the machine and of its control group; None where nobody says."""
    known = []
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        known.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit = group / "memory.max"
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        known.append(int(text) - int((group / "memory.current").read_text()))
    return min(known, default=None)


def convert(file: Path, folder: Path, *, chat_template: bool = False) -> None:
    """Fill `folder` with configuration, tokenizer and bfloat16 safetensors of a GGUF file. Blocks.

    With `chat_template`, one must be inside. Raises LoadError ModelUnsupported, OSError and what the reader raises.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if chat_template and not tokenizer.chat_template:
        raise LoadError(f"{file.name} carries no chat template", code="ModelUnsupported")
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    # The tensors are dense by now; these leftovers of the GGUF loader would make save_pretrained refuse.
    for holder, name in (
        (model.config, "quantization_config"),
        (model, "hf_quantizer"),
        (model, "is_quantized"),
    ):
        if hasattr(holder, name):
            delattr(holder, name)
    model.save_pretrained(folder)


def main(arguments: Sequence[str]) -> int:
    """The child; its exit status."""
    file, folder = map(Path, arguments)
    return child.serve(lambda _: convert(file, folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
