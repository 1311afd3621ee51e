# SPDX-License-Identifier: Apache-2.0
"""Requests on their way from the event loop to the torch thread. Imports no torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lateen_serving.engine.channel import Channel
from lateen_serving.engine.protocol import TokenEvent


@dataclass(frozen=True)
class GenerateJob:
    """A validated conversation to continue."""

    prompt: list[int]
    limit: int
    """Longest answer in tokens."""
    temperature: float
    top_p: float
    seed: int | None
    stop: list[str]
    channel: Channel[TokenEvent]


@dataclass(frozen=True)
class Tokens:
    """A text as an encoder reads it, or a pair of texts in one row."""

    ids: list[int]
    types: list[int] | None = None
    """For each token which text of the pair it belongs to; None: the model is not told."""

    def __len__(self) -> int:
        return len(self.ids)


Rows = npt.NDArray[np.float32]
"""What an encoder makes of texts: a vector each, shape (texts, dimension), or a number each, shape (texts,)."""


@dataclass(frozen=True)
class EncodeJob:
    """Tokenized texts to read; one array, in their order, comes back."""

    texts: list[Tokens]
    channel: Channel[Rows]
