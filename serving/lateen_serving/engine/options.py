# SPDX-License-Identifier: Apache-2.0
"""How a folder of weights is to be loaded. Made by `app.py`, read in the torch thread; imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class LoadOptions:
    """What to load and how to run it."""

    folder: Path
    """Weights, configuration and tokenizer, as transformers saves them."""
    device: Device = "cpu"
    dtype: str = "auto"
    """`auto`, `float32`, `bfloat16` or `float16`."""
    max_model_len: int | None = None
    """Longest sequence in tokens; None: what the model was trained for."""
    threads: int = 1
    """Compute threads."""
    max_rows: int = 32
    """Generation: requests worked on at the same time; more wait in order of arrival."""
    cache_bytes: int | None = None
    """Generation: memory for keys and values; None: 1 GiB on a CPU, 70 % of what is free on a GPU."""
