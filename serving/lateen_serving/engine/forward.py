# SPDX-License-Identifier: Apache-2.0
"""Forward passes of encoders over right-padded batches. Made by `embedder.py` and `reranker.py`, run by `batching.py`."""

from collections.abc import Sequence
from typing import Any

import torch

from lateen_serving.engine.jobs import Rows, Tokens
from lateen_serving.engine.pooling import Pooling


class Embedding:
    """Texts to vectors of length 1: shape (texts, dimension)."""

    def __init__(self, model: Any, device: str, pad: int, pooling: Pooling) -> None:
        self._model = model
        self._device = torch.device(device)
        self._pad = pad
        self._pooling = pooling

    def __call__(self, texts: Sequence[Tokens]) -> Rows:
        """One pass."""
        inputs = padded(texts, self._pad, self._device)
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state.float()
            vectors = pool(hidden, inputs["attention_mask"], self._pooling)
            rows: Rows = torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()
        return rows


class Scoring:
    """Pairs of texts to relevance between 0 and 1: shape (pairs,)."""

    def __init__(self, model: Any, device: str, pad: int) -> None:
        self._model = model
        self._device = torch.device(device)
        self._pad = pad

    def __call__(self, pairs: Sequence[Tokens]) -> Rows:
        """One pass."""
        with torch.inference_mode():
            logits = self._model(**padded(pairs, self._pad, self._device)).logits.float()
            rows: Rows = logits.squeeze(-1).sigmoid().cpu().numpy()
        return rows


def padded(texts: Sequence[Tokens], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A model's arguments for `texts`, each of shape (texts, longest of them)."""
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (texts[0].types is not None)
    width = max(len(text) for text in texts)
    inputs = {name: torch.zeros((len(texts), width), dtype=torch.long) for name in names}
    inputs["input_ids"].fill_(pad)
    for row, text in enumerate(texts):
        inputs["input_ids"][row, : len(text)] = torch.tensor(text.ids)
        inputs["attention_mask"][row, : len(text)] = 1
        if text.types is not None:
            inputs["token_type_ids"][row, : len(text)] = torch.tensor(text.types)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per row of right-padded token vectors (rows, columns, dimension)."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
