# SPDX-License-Identifier: Apache-2.0
"""Text generation with any causal language model of transformers. Made by `app.py`.

This side lives in the event loop and does no torch work: it validates, tokenizes (in a thread of its own) and
passes on what the scheduler in the torch thread sends.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lateen_serving.engine import admission
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.jobs import GenerateJob
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
from lateen_serving.errors import InputError

if TYPE_CHECKING:
    from lateen_serving.engine.prompt import PromptEncoder, Spans
    from lateen_serving.engine.scheduler import Scheduler


@dataclass(frozen=True)
class Facts:
    """What the event loop's side needs from the loaded model."""

    prompts: "PromptEncoder"
    spans: "Spans"
    description: Description


class TextGenerator:
    """An `Engine` that generates text."""

    def __init__(self, thread: TorchThread[GenerateJob], facts: Facts) -> None:
        self._thread = thread
        self._facts = facts
        # One worker: the prompt encoder is not safe to use from two threads.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    @classmethod
    async def create(cls, options: LoadOptions) -> "TextGenerator":
        """Load the weights and start; raises LoadError."""
        thread: TorchThread[GenerateJob] = TorchThread("torch")
        facts = await thread.start(lambda: load(options))
        return cls(thread, facts)

    async def generate(self, request: GenerateRequest) -> AsyncIterator[TokenEvent]:
        """Continue a conversation; see `protocol.Engine`."""
        admission.validate(request)
        self._thread.check()
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(self._tokenizing, self._facts.prompts.encode, request["messages"])
        limit = admission.answer_limit(
            len(prompt), request["max_tokens"], self._facts.description["max_tokens"]
        )
        channel: Channel[TokenEvent] = Channel()
        job = GenerateJob(
            prompt=prompt,
            limit=limit,
            temperature=request["temperature"],
            top_p=request["top_p"],
            seed=request["seed"],
            stop=request["stop"],
            channel=channel,
        )
        try:
            self._thread.submit(job)
            finished = False
            while not finished:
                event = _merge(await channel.receive())
                finished = "finish_reason" in event
                yield event
        finally:
            channel.cancel()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Refused: raises InputError."""
        facts = {"texts": len(texts)}
        raise InputError("this model generates text; it does not embed", param="model", context=facts)

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """Refused: raises InputError."""
        facts = {"characters": len(query), "documents": len(documents)}
        raise InputError("this model generates text; it does not rerank", param="model", context=facts)

    async def set_adapters(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """See `protocol.Engine`."""
        return {adapter["name"]: "adapters are not there yet" for adapter in adapters}

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
        self._tokenizing.shutdown(wait=False)


def _merge(events: list[TokenEvent]) -> TokenEvent:
    """Events that became ready together, as one."""
    last = events[-1]
    if len(events) > 1:
        last = last.copy()
        last["text"] = "".join(event["text"] for event in events)
    return last


def load(options: LoadOptions) -> tuple["Scheduler", Facts]:
    """Load everything; called in the torch thread. Raises LoadError."""
    import torch

    from lateen_serving.engine.decoder import Decoder
    from lateen_serving.engine.loading import end_tokens, load_generator
    from lateen_serving.engine.prompt import PromptEncoder, Spans
    from lateen_serving.engine.scheduler import Limits, Scheduler

    loaded = load_generator(options)
    with torch.inference_mode():
        model = Decoder(loaded.model, options.device)
    spans = Spans(loaded.tokenizer)
    limits = Limits(
        rows=options.max_rows,
        cache_tokens=_cache_tokens(options, model.bytes_per_token, loaded.max_tokens),
        chunk_tokens=8192 if options.device == "cuda" else 512,
    )
    facts = Facts(
        PromptEncoder(loaded.tokenizer),
        spans,
        loaded.describe(loaded.max_tokens, dimension=0),
    )
    return Scheduler(model, spans.tokenizer.decode, end_tokens(loaded), limits), facts


def _cache_tokens(options: LoadOptions, bytes_per_token: int, context: int) -> int:
    """Tokens whose keys and values fit; at least one full context, so that every request can be served."""
    import torch

    budget = options.cache_bytes
    if budget is None:
        budget = int(torch.cuda.mem_get_info()[0] * 0.7) if options.device == "cuda" else 2**30
    return max(context, budget // max(1, bytes_per_token))
