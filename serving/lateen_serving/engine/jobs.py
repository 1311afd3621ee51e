# SPDX-License-Identifier: Apache-2.0
"""Requests on their way from the event loop to the torch thread. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lateen_serving.engine.adapter_files import AdapterFiles
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.grammar import Constraint
from lateen_serving.engine.protocol import GenerateRequest, TokenEvent


@dataclass(frozen=True)
class Rules:
    """How the tokens of an answer are chosen; each field as in `protocol.GenerateRequest`."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, request: GenerateRequest) -> "Rules":
        """Those of a validated request."""
        return cls(
            request["temperature"],
            request["top_p"],
            request["seed"],
            request.get("top_k", 0),
            request.get("min_p", 0.0),
            request.get("presence_penalty", 0.0),
            request.get("frequency_penalty", 0.0),
            request.get("logit_bias", {}),
        )


@dataclass(frozen=True)
class GenerateJob:
    """A validated conversation or text to continue."""

    prompt: list[int]
    limit: int
    """Longest answer in tokens."""
    rules: Rules
    stop: list[str]
    channel: Channel[TokenEvent]
    logprobs: int | None = None
    """As in `protocol.GenerateRequest`; None: none."""
    constraint: Constraint | None = None
    """What the answer must look like."""
    adapter: str | None = None
    """Key under which the LoRA adapter is loaded in the torch thread; None: the model as it is."""


@dataclass(frozen=True)
class AdaptersJob:
    """LoRA adapters to load and to unload, by keys that are never used twice; why loading failed comes back, by key.

    What is unloaded stays until the last request that was queued before has ended.
    """

    load: Mapping[str, AdapterFiles]
    """What the folder of each holds."""
    unload: frozenset[str]
    channel: Channel[dict[str, str]]


@dataclass(frozen=True)
class RoomJob:
    """Another number of requests to work on at the same time."""

    rows: int


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
