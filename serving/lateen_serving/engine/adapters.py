# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters inside one loaded model: loaded, mixed in one batch and unloaded with peft.

Used by `scheduler.py` in the torch thread. While there is no adapter the model is exactly what it was without peft.
"""

import json
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from lateen_serving.errors import LoadError

_log = logging.getLogger(__name__)
_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_LARGEST_RANK = 512
_BASE = "__base__"
"""peft's name for a row without an adapter."""

_CHANGE_THE_MODEL = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Ways to initialize LoRA that also change the model's own weights, so that the adapter fits no other copy of them."""


class Adapters:
    """The adapters of one model, by keys that are never used twice."""

    def __init__(self, model: Any, forward_with: Callable[[Any], None]) -> None:
        """`forward_with` is told what to call for a forward pass, whenever that changes."""
        self._model = model
        self._forward_with = forward_with
        self._wrapped: Any = None
        self._keys: set[str] = set()

    def loaded(self, key: str) -> bool:
        """Whether there is such an adapter."""
        return key in self._keys

    def names(self, keys: Sequence[str | None]) -> list[str] | None:
        """The argument by which peft gives each row of a batch its adapter; None while there are no adapters."""
        return [key or _BASE for key in keys] if self._keys else None

    def load(self, key: str, folder: str) -> str:
        """Load an adapter from a folder; why that can't be done, or nothing."""
        try:
            self._load(key, Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever peft raises about an adapter is the adapter's failure
            self.unload({key})
            _log.warning("adapter %s can't be loaded: %r", folder, error)
            return " ".join(str(error).split())[:400] or type(error).__name__
        self._keys.add(key)
        return ""

    def unload(self, keys: Collection[str]) -> None:
        """Forget adapters; after the last one the model is unwrapped."""
        self._keys -= set(keys)
        if not self._keys:
            self._unwrap()
            return
        for key in keys:
            if key in self._wrapped.peft_config:
                self._wrapped.delete_adapter(key)

    def _load(self, key: str, folder: Path) -> None:
        from peft import PeftModel, set_peft_model_state_dict

        config = _config(folder)
        weights = load_file(folder / _WEIGHTS)
        if self._wrapped is None:
            self._wrapped = PeftModel(self._model, config, adapter_name=key, autocast_adapter_dtype=False)
            self._forward_with(self._wrapped)
        else:
            self._wrapped.add_adapter(key, config, autocast_adapter_dtype=False)
        # Which adapter is active is said for each batch; one that were active by itself could only do harm.
        self._wrapped.base_model.set_adapter([], inference_mode=True)
        result: Any = set_peft_model_state_dict(self._wrapped, weights, adapter_name=key)
        missing = [name for name in result.missing_keys if "lora_" in name and f".{key}." in name]
        odd = [*missing, *result.unexpected_keys]
        if odd:
            raise LoadError(f"the adapter's weights don't fit this model: {odd[0]} is missing or unknown")
        self._wrapped.eval()

    def _unwrap(self) -> None:
        """Put the model's own layers back, also after a first adapter that failed half way."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, module in list(self._model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                parent, _, child = name.rpartition(".")
                setattr(self._model.get_submodule(parent), child, module.get_base_layer())
        vars(self._model).pop("peft_config", None)
        self._wrapped = None
        self._forward_with(self._model)


def _config(folder: Path) -> Any:
    """The adapter's configuration; raises LoadError for what can't share a batch or would change the model."""
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
