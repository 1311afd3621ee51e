# SPDX-License-Identifier: Apache-2.0
"""Weights around the tiny generator: a LoRA adapter for it, and a generator that fails on every request."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from stack import tiny

RANK = 4


def adapter(folder: Path, seed: int = 0) -> None:
    """Make an adapter of `tiny.generator` as PEFT lays it out; it changes what the model says."""
    dice = np.random.default_rng(seed)
    tensors: tiny.Tensors = {}
    for layer in range(tiny.LAYERS):
        for name in ("q_proj", "v_proj"):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = dice.normal(0, 1, (RANK, tiny.HIDDEN)).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = dice.normal(0, 1, (tiny.HIDDEN, RANK)).astype(np.float32)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 4 * RANK, "lora_dropout": 0.0,
        "bias": "none", "target_modules": ["q_proj", "v_proj"], "inference_mode": True,
        "base_model_name_or_path": "tiny-chat",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def narrow_generator(folder: Path, sound: Path) -> None:
    """Make a generator that loads and then fails: it knows four tokens, its tokenizer many."""
    shutil.copytree(sound, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 4}))
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:4].copy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
