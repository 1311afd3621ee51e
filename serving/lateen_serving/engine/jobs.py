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
class EmbedJob:
    """Tokenized texts to embed; one array, in their order, comes back."""

    texts: list[list[int]]
    channel: Channel[npt.NDArray[np.float32]]
