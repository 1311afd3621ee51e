# SPDX-License-Identifier: Apache-2.0
"""The folder of a LoRA adapter: read whole and checked as far as that goes without the model.

Called by `generator.py` in a thread of its own, so that a slow disk stalls nobody's answer; `adapters.py` puts what was
read into the model. Imports torch and peft only when a folder is read.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lateen_serving.errors import LoadError

_log = logging.getLogger(__name__)
_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_LARGEST_RANK = 512

_CHANGE_THE_MODEL = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Ways to initialize LoRA that also change the model's own weights, so that the adapter fits no other copy of them."""


@dataclass(frozen=True)
class AdapterFiles:
    """What an adapter's folder holds."""

    config: Any
    """A peft LoraConfig."""
    weights: Mapping[str, Any]
    """Tensors in memory, by peft's names."""


def read(folder: Path) -> AdapterFiles:
    """Both files of an adapter; raises LoadError, in one line, whatever is wrong with them."""
    try:
        from safetensors.torch import load

        # Not load_file: that maps the file, and the disk would be read later, in the torch thread.
        return AdapterFiles(_config(folder), load((folder / _WEIGHTS).read_bytes()))
    except Exception as error:
        _log.warning("adapter %s can't be read: %r", folder, error)
        raise LoadError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """What is wrong with an adapter, as status can show it."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def _config(folder: Path) -> Any:
    """The adapter's configuration; raises LoadError for what can't share a batch or would change the model."""
    import torch.distributed.tensor  # noqa: F401 - peft counts on somebody having imported it
    from peft import LoraConfig, PeftConfig

    if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
        raise LoadError(f"the folder must hold {_CONFIG} and {_WEIGHTS}; pickled weights are refused")
    declared = json.loads((folder / _CONFIG).read_text())
    if declared.get("peft_type") != "LORA":
        raise LoadError(f"peft_type is {declared.get('peft_type')}; only LORA adapters are supported")
    config = PeftConfig.from_pretrained(str(folder))
    assert isinstance(config, LoraConfig)
    problem = _problem(config)
    if problem:
        raise LoadError(f"{_CONFIG}: {problem}")
    config.inference_mode = True
    config.init_lora_weights = False  # every weight comes from the file
    config.megatron_config = None  # names a module to import
    return config


def _problem(config: Any) -> str:
    ranks = [config.r, *(config.rank_pattern or {}).values()]
    if max(ranks) > _LARGEST_RANK:
        return f"the rank is {max(ranks)}; at most {_LARGEST_RANK} is supported"
    initialized = str(config.init_lora_weights).lower()
    if initialized.startswith(_CHANGE_THE_MODEL):
        return f"init_lora_weights {initialized} changes the model's own weights; convert it to plain LoRA"
    if config.bias != "none":
        return "bias must be none: adapters share the model's biases"
    for field in ("use_dora", "modules_to_save", "layer_replication", "trainable_token_indices",
                  "target_parameters", "alora_invocation_tokens", "arrow_config"):  # fmt: skip
        if getattr(config, field, None):
            return f"{field} is not supported in a batch of several adapters"
    return ""
