# SPDX-License-Identifier: Apache-2.0
"""Forward passes of a causal language model over a left-padded batch with its cache of keys and values.

Used by `scheduler.py` in the torch thread. Hides what differs between architectures: which arguments `forward`
takes, and whether the cache can be padded, merged and cut (`joinable`).
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from transformers.cache_utils import DynamicCache, DynamicLayer

from lateen_serving.engine.adapters import Adapters


@dataclass
class State:
    """What the model has read so far, for each row of a batch."""

    mask: torch.Tensor
    """(rows, length): 1 for tokens, 0 for padding on the left."""
    padded: bool = False
    """Whether the mask has any 0. Without padding no mask is passed: that is faster, and recurrent layers want none."""
    cache: Any = None
    """The model's own cache; None before the first pass."""
    ids: torch.Tensor | None = field(default=None)
    """All tokens, kept only for models without a cache."""

    @property
    def length(self) -> int:
        """Columns, padding included."""
        return self.mask.shape[1]


class Decoder:
    """Runs one model. Its methods expect `torch.inference_mode`."""

    def __init__(self, model: Any, device: str) -> None:
        self._model = model
        self.adapters = Adapters(model, self._forward_with)
        """LoRA adapters of the model; rows name theirs in `forward`."""
        self.device = torch.device(device)
        self._arguments = frozenset(inspect.signature(model.forward).parameters)
        self._cache_name: str | None = None
        state, logits = self.probe()
        self.vocabulary = logits.shape[-1]
        """Width of the logits."""
        self.joinable = _is_plain(state.cache) and "position_ids" in self._arguments
        """Whether rows of different requests may share a batch."""
        self.bytes_per_token = _cache_bytes(state.cache) // 2

    def probe(self) -> tuple[State, torch.Tensor]:
        """The smallest pass that shows that the model works, of two tokens: state and logits (1, vocabulary)."""
        ids = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        state = self.empty(1)
        return state, self.forward(ids, torch.ones_like(ids), state, [None])

    def empty(self, rows: int, padded: bool = False) -> State:
        """The state before anything was read; `padded`: the mask will have zeros."""
        return State(torch.zeros((rows, 0), dtype=torch.long, device=self.device), padded)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, state: State, adapters: Sequence[str | None] = ()
    ) -> torch.Tensor:
        """Read `ids` (rows, columns) behind `state`, which is changed; logits (rows, vocabulary) of the last column.

        `adapters`: for each row the key of its LoRA adapter, or None.
        """
        state.mask = torch.cat([state.mask, mask], dim=1)
        if state.cache is None and state.length > ids.shape[1]:
            assert state.ids is not None
            ids = torch.cat([state.ids, ids], dim=1)
        arguments: dict[str, Any] = {"input_ids": ids, "use_cache": True, "return_dict": True}
        if state.padded:
            arguments["attention_mask"] = state.mask
        if "position_ids" in self._arguments:
            arguments["position_ids"] = (state.mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._arguments:
            arguments["logits_to_keep"] = 1
        if state.cache is not None and self._cache_name is not None:
            arguments[self._cache_name] = state.cache
        names = self.adapters.names(adapters)
        if names is not None:
            arguments["adapter_names"] = names
        output = self._model(**arguments)
        self._keep(output, ids, state)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _forward_with(self, model: Any) -> None:
        self._model = model

    def _keep(self, output: Any, ids: torch.Tensor, state: State) -> None:
        for name in ("past_key_values", "cache_params"):
            if output.get(name) is not None:
                self._cache_name, state.cache = name, output[name]
                return
        state.ids = ids


def join(left: State, right: State) -> State:
    """One state with the rows of both; for joinable models."""
    length = max(left.length, right.length)
    padded = left.padded or right.padded or left.length != right.length
    mask = torch.cat([_pad(left.mask, length, 1), _pad(right.mask, length, 1)])
    for layer, other in zip(left.cache.layers, right.cache.layers, strict=True):
        if layer.is_initialized:
            layer.keys = torch.cat([_pad(layer.keys, length, 2), _pad(other.keys, length, 2)])
            layer.values = torch.cat([_pad(layer.values, length, 2), _pad(other.values, length, 2)])
    return State(mask, padded, left.cache)


def keep_rows(state: State, rows: list[int]) -> None:
    """Drop all other rows, and the columns that are padding in every row that stays; for joinable models."""
    index = torch.tensor(rows, dtype=torch.long, device=state.mask.device)
    mask = state.mask.index_select(0, index)
    cut = int(mask.any(dim=0).long().argmax())  # a row of which nothing was read yet has no token at all
    state.mask = mask[:, cut:]
    state.padded = not bool(state.mask.all())
    for layer in state.cache.layers:
        if layer.is_initialized:
            layer.keys = layer.keys.index_select(0, index)[:, :, cut:]
            layer.values = layer.values.index_select(0, index)[:, :, cut:]


def _pad(tensor: torch.Tensor, length: int, axis: int) -> torch.Tensor:
    """Zeros in front along `axis`, up to `length`."""
    missing = length - tensor.shape[axis]
    if missing == 0:
        return tensor
    behind = [0, 0] * (tensor.dim() - 1 - axis)
    return F.pad(tensor, [*behind, missing, 0])


def _is_plain(cache: Any) -> bool:
    """Whether every layer simply holds all keys and values: no sliding window, no recurrent state."""
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def _cache_bytes(cache: Any) -> int:
    tensors = [
        tensor
        for layer in getattr(cache, "layers", ())
        for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if tensor is not None
    ]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
