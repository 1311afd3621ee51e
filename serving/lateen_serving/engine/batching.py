# SPDX-License-Identifier: Apache-2.0
"""Embeds in the torch thread: texts of concurrent requests share forward passes of similar length.

Made by `embedder.py`. A step is one pass of bounded size, so that a short query need not wait for a long build.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lateen_serving.engine.channel import deliver
from lateen_serving.engine.jobs import EmbedJob
from lateen_serving.engine.pooling import Pooling
from lateen_serving.errors import ModelError

_log = logging.getLogger(__name__)
_OLDEST_FIRST_EVERY = 4
"""Every so many passes the oldest request leads, so that short ones can't starve a long one."""


@dataclass(eq=False)
class Progress:
    """One request and what is done of it."""

    job: EmbedJob
    left: list[int]
    """Indexes of texts still to do, longest last."""
    vectors: npt.NDArray[np.float32] | None = None

    @property
    def tokens_left(self) -> int:
        """Tokens of those texts."""
        return sum(len(self.job.texts[index]) for index in self.left)


Pick = tuple[Progress, int]
"""A text: its request and its index there."""


def pick(pending: list[Progress], budget: int) -> list[Pick]:
    """Take texts for one pass, longest first, from `pending` in order; padded they stay within `budget` tokens.

    The first request leads with its longest texts; the room left is filled with texts of others that are no longer.
    """
    picked: list[Pick] = []
    width = 0
    for progress in pending:
        for index in reversed(progress.left):
            length = len(progress.job.texts[index])
            if picked and (length > width or (len(picked) + 1) * width > budget):
                continue
            width = max(width, length)
            picked.append((progress, index))
        taken = {index for owner, index in picked if owner is progress}
        progress.left = [index for index in progress.left if index not in taken]
        if (len(picked) + 1) * width > budget:
            break
    return picked


class EmbedBatcher:
    """The `Work` of an embedder's torch thread."""

    def __init__(self, model: Any, device: str, pooling: Pooling, pad: int, budget: int) -> None:
        self._model = model
        self._device = torch.device(device)
        self._pooling = pooling
        self._pad = pad
        self._budget = budget
        self._pending: list[Progress] = []
        self._passes = 0

    def add(self, job: EmbedJob) -> None:
        """Queue a request."""
        order = sorted(range(len(job.texts)), key=lambda index: len(job.texts[index]))
        self._pending.append(Progress(job, order))

    def step(self) -> bool:
        """Embed the texts of one pass; False when idle."""
        self._pending = [progress for progress in self._pending if not progress.job.channel.cancelled]
        picked = pick(self._order(), self._budget)
        if picked:
            self._embed(picked)
        return bool(self._pending)

    def close(self, error: Exception) -> None:
        """End all requests."""
        deliver((progress.job.channel, error) for progress in self._pending)
        self._pending = []

    def _order(self) -> list[Progress]:
        self._passes += 1
        if self._passes % _OLDEST_FIRST_EVERY == 0:
            return self._pending
        return sorted(self._pending, key=lambda progress: progress.tokens_left)

    def _embed(self, picked: list[Pick]) -> None:
        try:
            vectors = self.vectors([progress.job.texts[index] for progress, index in picked])
        except Exception as error:  # noqa: BLE001 - told to the requests of this pass; the loop serves on
            self._fail({progress for progress, _ in picked}, error)
            return
        for (progress, index), vector in zip(picked, vectors, strict=True):
            if progress.vectors is None:
                shape = (len(progress.job.texts), vectors.shape[1])
                progress.vectors = np.empty(shape, dtype=np.float32)
            progress.vectors[index] = vector
        self._finish({progress for progress, _ in picked})

    def _finish(self, touched: set[Progress]) -> None:
        for progress in touched:
            if progress.left or progress.vectors is None:
                continue
            self._pending.remove(progress)
            result: npt.NDArray[np.float32] | Exception = progress.vectors
            if not np.isfinite(progress.vectors).all():
                result = ModelError("the model's arithmetic failed on these texts (not a number)")
            deliver([(progress.job.channel, result)])

    def _fail(self, touched: set[Progress], error: Exception) -> None:
        _log.error("embedding failed for %d request(s)", len(touched), exc_info=error)
        for progress in touched:
            self._pending.remove(progress)
            failure = ModelError(f"the model failed on these texts ({type(error).__name__})")
            deliver([(progress.job.channel, failure)])

    def vectors(self, texts: list[list[int]]) -> npt.NDArray[np.float32]:
        """One forward pass: vectors of length 1, in order."""
        width = max(len(text) for text in texts)
        ids = torch.full((len(texts), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            vectors = torch.nn.functional.normalize(pool(hidden, mask, self._pooling), dim=-1)
        result: npt.NDArray[np.float32] = vectors.cpu().numpy()
        return result


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per row of right-padded token vectors (rows, columns, dimension)."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
