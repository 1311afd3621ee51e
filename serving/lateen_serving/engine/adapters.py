# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters inside one loaded model: loaded, mixed in one batch and unloaded with peft.

Used by `scheduler.py` in the torch thread. While there is no adapter the model is exactly what it was without peft.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

from lateen_serving.engine.adapter_files import AdapterFiles, one_line
from lateen_serving.errors import LoadError

_log = logging.getLogger(__name__)
_BASE = "__base__"
"""peft's name for a row without an adapter."""


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

    def load(self, key: str, files: AdapterFiles) -> str:
        """Put an adapter into the model; why that can't be done, or nothing."""
        try:
            self._load(key, files)
        except Exception as error:  # noqa: BLE001 - whatever peft raises about an adapter is the adapter's failure
            self.unload({key})
            _log.warning("an adapter can't be loaded", exc_info=error)
            return one_line(error)
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

    def _load(self, key: str, files: AdapterFiles) -> None:
        from peft import PeftModel, set_peft_model_state_dict

        config = files.config
        if self._wrapped is None:
            self._wrapped = PeftModel(self._model, config, adapter_name=key, autocast_adapter_dtype=False)
            self._forward_with(self._wrapped)
        else:
            self._wrapped.add_adapter(key, config, autocast_adapter_dtype=False)
        # Which adapter is active is said for each batch; one that were active by itself could only do harm.
        self._wrapped.base_model.set_adapter([], inference_mode=True)
        result: Any = set_peft_model_state_dict(self._wrapped, dict(files.weights), adapter_name=key)
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
