# SPDX-License-Identifier: Apache-2.0
"""Text embeddings with any BERT-like encoder of transformers. Made by `app.py`.

This side lives in the event loop and does no torch work: it tokenizes and waits for the batcher in the torch thread.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lateen_serving.engine import pooling
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.jobs import EmbedJob
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import (
    AdapterWeights,
    Description,
    Embeddings,
    GenerateRequest,
    Ranking,
    TokenEvent,
)
from lateen_serving.engine.thread import TorchThread
from lateen_serving.errors import ContextTooLong, InputError

if TYPE_CHECKING:
    from lateen_serving.engine.batching import EmbedBatcher
    from lateen_serving.engine.prompt import Spans

_PASS_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens, padding included, in one forward pass."""


@dataclass(frozen=True)
class Facts:
    """What the event loop's side needs from the loaded model."""

    spans: "Spans"
    description: Description


class TextEmbedder:
    """An `Engine` that embeds texts."""

    def __init__(self, thread: TorchThread[EmbedJob], facts: Facts) -> None:
        self._thread = thread
        self._facts = facts

    @classmethod
    async def create(cls, options: LoadOptions) -> "TextEmbedder":
        """Load the weights and start; raises LoadError."""
        thread: TorchThread[EmbedJob] = TorchThread("torch")
        facts = await thread.start(lambda: load(options))
        return cls(thread, facts)

    def generate(self, request: GenerateRequest) -> AsyncIterator[TokenEvent]:
        """Refused: raises InputError."""
        facts = {"messages": len(request["messages"])}
        raise InputError("this model embeds texts; it does not generate", param="model", context=facts)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `protocol.Engine`; InputError when there is nothing to embed."""
        if not texts:
            raise InputError("input must hold at least one text", param="input")
        for index, text in enumerate(texts):
            if not text:
                raise InputError(f"input[{index}] is empty", param=f"input[{index}]")
        tokens = await asyncio.to_thread(self._encode, texts)
        self._check_lengths(tokens)
        channel: Channel[npt.NDArray[np.float32]] = Channel()
        try:
            self._thread.submit(EmbedJob(tokens, channel))
            (vectors,) = await channel.receive()
        finally:
            channel.cancel()
        return Embeddings(vectors=vectors, tokens=[len(text) for text in tokens])

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._facts.spans.tokenizer.encode_batch(list(texts), add_special_tokens=True)
        return [encoding.ids for encoding in encodings]

    def _check_lengths(self, tokens: list[list[int]]) -> None:
        limit = self._facts.description["max_tokens"]
        for index, text in enumerate(tokens):
            if len(text) > limit:
                raise ContextTooLong(
                    f"input[{index}] is {len(text)} tokens, but this model reads at most {limit}",
                    param=f"input[{index}]",
                    context={"tokens": len(text), "max_tokens": limit},
                )

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """Refused: raises InputError."""
        facts = {"characters": len(query), "documents": len(documents)}
        raise InputError("this model embeds texts; it does not rerank", param="model", context=facts)

    async def set_adapters(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """None can be had."""
        return {adapter["name"]: "adapters are for task: generate" for adapter in adapters}

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `protocol.Engine`."""
        return await asyncio.to_thread(self._facts.spans.of, texts)

    def describe(self) -> Description:
        """See `protocol.Engine`."""
        return self._facts.description

    async def check_health(self) -> None:
        """Raise Unavailable when the torch thread has ended."""
        self._thread.check()

    async def aclose(self) -> None:
        """End the torch thread; running requests end with Unavailable."""
        await self._thread.aclose()


def load(options: LoadOptions) -> tuple["EmbedBatcher", Facts]:
    """Load everything; called in the torch thread. Raises LoadError."""
    recipe = pooling.read(options.folder)

    from lateen_serving.engine.batching import EmbedBatcher
    from lateen_serving.engine.loading import load_embedder
    from lateen_serving.engine.prompt import Spans

    loaded = load_embedder(options)
    limit = min(loaded.max_tokens, recipe.max_tokens or loaded.max_tokens)
    pad = loaded.tokenizer.pad_token_id or 0
    batcher = EmbedBatcher(loaded.model, options.device, recipe.pooling, pad, _PASS_TOKENS[options.device])
    dimension = batcher.vectors([[pad]]).shape[1]  # also the first pass, which is slow
    return batcher, Facts(Spans(loaded.tokenizer), loaded.describe(limit, dimension))
