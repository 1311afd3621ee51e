# SPDX-License-Identifier: Apache-2.0
"""Reranking with any cross-encoder of transformers: query and document are read together. Made by `app.py`."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lateen_serving.engine import relevance
from lateen_serving.engine.encoder import PASS_TOKENS, Facts, TextEncoder
from lateen_serving.engine.jobs import EncodeJob, Tokens
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import Ranking
from lateen_serving.engine.thread import TorchThread
from lateen_serving.errors import InputError

if TYPE_CHECKING:
    from lateen_serving.engine.batching import Batcher


class TextReranker(TextEncoder):
    """An `Engine` that says how well documents answer a query."""

    does = "reranks documents"

    @classmethod
    async def create(cls, options: LoadOptions) -> "TextReranker":
        """Load the weights and start; raises LoadError."""
        thread: TorchThread[EncodeJob] = TorchThread("torch")
        facts = await thread.start(lambda: load(options))
        return cls(thread, facts)

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """See `protocol.Engine`; InputError when the query, the list or a document is empty."""
        if not query:
            raise InputError("query is empty", param="query")
        if not documents:
            raise InputError("documents must hold at least one text", param="documents")
        for index, document in enumerate(documents):
            if not document:
                raise InputError(f"documents[{index}] is empty", param=f"documents[{index}]")
        pairs = await asyncio.to_thread(self._encode, query, documents)
        for index, pair in enumerate(pairs):
            self.check_length(len(pair), f"documents[{index}]", f"documents[{index}] together with the query")
        scores = await self.run(pairs)
        return Ranking(scores=scores.tolist(), tokens=[len(pair) for pair in pairs])

    def _encode(self, query: str, documents: Sequence[str]) -> list[Tokens]:
        pairs = [(query, document) for document in documents]
        encodings = self._facts.spans.tokenizer.encode_batch(pairs, add_special_tokens=True)
        typed = self._facts.typed
        return [Tokens(encoding.ids, encoding.type_ids if typed else None) for encoding in encodings]


def load(options: LoadOptions) -> tuple["Batcher", Facts]:
    """Load everything; called in the torch thread. Raises LoadError."""
    relevance.check(options.folder)

    from lateen_serving.engine.batching import Batcher
    from lateen_serving.engine.forward import Scoring
    from lateen_serving.engine.loading import load_reranker
    from lateen_serving.engine.prompt import Spans

    loaded = load_reranker(options)
    limit = min(loaded.max_tokens, loaded.tokenizer.model_max_length)
    typed = "token_type_ids" in loaded.tokenizer.model_input_names
    pad = loaded.tokenizer.pad_token_id
    model = Scoring(loaded.model, options.device, pad)
    smallest = Tokens([pad, pad], [0, 1] if typed else None)
    model([smallest])  # the first pass is slow
    batcher = Batcher(model, PASS_TOKENS[options.device], smallest)
    return batcher, Facts(Spans(loaded.tokenizer), loaded.describe(limit, dimension=0), typed)
