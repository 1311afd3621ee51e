# SPDX-License-Identifier: Apache-2.0
"""Text embeddings with any BERT-like encoder of transformers. Made by `app.py`."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lateen_serving.engine import pooling
from lateen_serving.engine.encoder import PASS_TOKENS, Facts, TextEncoder
from lateen_serving.engine.jobs import EncodeJob, Tokens
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.engine.thread import TorchThread
from lateen_serving.errors import InputError

if TYPE_CHECKING:
    from lateen_serving.engine.batching import Batcher


class TextEmbedder(TextEncoder):
    """An `Engine` that embeds texts."""

    does = "embeds texts"

    @classmethod
    async def create(cls, options: LoadOptions) -> "TextEmbedder":
        """Load the weights and start; raises LoadError."""
        thread: TorchThread[EncodeJob] = TorchThread("torch")
        facts = await thread.start(lambda: load(options))
        return cls(thread, facts)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `protocol.Engine`; InputError when there is nothing to embed."""
        if not texts:
            raise InputError("input must hold at least one text", param="input")
        for index, text in enumerate(texts):
            if not text:
                raise InputError(f"input[{index}] is empty", param=f"input[{index}]")
        tokens = await asyncio.to_thread(self._encode, texts)
        for index, text_tokens in enumerate(tokens):
            self.check_length(len(text_tokens), f"input[{index}]", f"input[{index}]")
        return Embeddings(vectors=await self.run(tokens), tokens=[len(text) for text in tokens])

    def _encode(self, texts: Sequence[str]) -> list[Tokens]:
        encodings = self._facts.spans.tokenizer.encode_batch(list(texts), add_special_tokens=True)
        return [Tokens(encoding.ids) for encoding in encodings]


def load(options: LoadOptions) -> tuple["Batcher", Facts]:
    """Load everything; called in the torch thread. Raises LoadError."""
    recipe = pooling.read(options.folder)

    from lateen_serving.engine.batching import Batcher
    from lateen_serving.engine.forward import Embedding
    from lateen_serving.engine.loading import load_embedder
    from lateen_serving.engine.prompt import Spans

    loaded = load_embedder(options)
    limit = min(loaded.max_tokens, recipe.max_tokens or loaded.max_tokens)
    pad = loaded.tokenizer.pad_token_id or 0
    model = Embedding(loaded.model, options.device, pad, recipe.pooling)
    smallest = Tokens([pad])
    dimension = model([smallest]).shape[1]  # also the first pass, which is slow
    batcher = Batcher(model, PASS_TOKENS[options.device], smallest)
    return batcher, Facts(Spans(loaded.tokenizer), loaded.describe(limit, dimension))
