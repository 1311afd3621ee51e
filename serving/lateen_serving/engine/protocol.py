# SPDX-License-Identifier: Apache-2.0
"""The seam between the service and whatever runs a model. Called by `engine/app.py`; implemented beside it.

An engine knows tokens and weights; it never sees HTTP, Kubernetes or prompt templates. The TypedDicts are plain
dicts because they cross Ray Serve handles, where plain data is cheapest.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NotRequired, Protocol, TypedDict

import numpy as np
import numpy.typing as npt


class ChatMessage(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


class GenerateRequest(TypedDict):
    """A conversation to continue. `Model.generate` of a model application takes it, streamed."""

    messages: list[ChatMessage]
    max_tokens: int | None
    """Longest answer; None: as long as the model's context allows."""
    temperature: float
    """0 is greedy."""
    top_p: float
    """Nucleus mass, (0, 1]."""
    seed: int | None
    """Same seed, same request, same weights: same answer, whatever else is in the batch."""
    stop: list[str]
    """Generation ends before the first of these texts."""


class TokenEvent(TypedDict):
    """What is new of an answer: tokens that became ready together travel in one event."""

    text: str
    """New text; may be empty while a stop text or a multi-byte character is undecided."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens of the answer so far."""
    finish_reason: NotRequired[Literal["stop", "length"]]
    """Present in the last event only."""


class Embeddings(TypedDict):
    """Vectors of texts, in order."""

    vectors: npt.NDArray[np.float32]
    """Shape (texts, dimension), each of length 1."""
    tokens: list[int]
    """Tokens of each text as the model read it."""


class Description(TypedDict):
    """Facts about a loaded model."""

    max_tokens: int
    """Longest input of an embedder, or context of a generator, in tokens."""
    dimension: int
    """Length of an embedder's vectors; 0 for a generator."""
    dtype: str


class Engine(Protocol):
    """Runs one loaded model. All methods are safe to call concurrently from one event loop."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[TokenEvent]:
        """Continue a conversation; closing the iterator stops the work.

        Raises errors.InputError, errors.ContextTooLong before the first event; errors.ModelError at any time.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of `texts`; longer ones than the model can read raise errors.ContextTooLong."""
        ...

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of each of its tokens, without special tokens."""
        ...

    def describe(self) -> Description:
        """Facts about the loaded model."""
        ...

    async def check_health(self) -> None:
        """Raise if the engine can't serve any more."""
        ...

    async def aclose(self) -> None:
        """Stop the work and free what it holds."""
        ...
