# SPDX-License-Identifier: Apache-2.0
"""Text generation with any causal language model of transformers. Made by `app.py`.

This side lives in the event loop and does no torch work: it validates, tokenizes (in a thread of its own) and
passes on what the scheduler in the torch thread sends.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lateen_serving.engine import adapter_files, admission, window
from lateen_serving.engine.adapter_files import AdapterFiles
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.gathering import merged
from lateen_serving.engine.grammar import Constraint, Grammars
from lateen_serving.engine.jobs import AdaptersJob, GenerateJob, RoomJob, Rules
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import (
    AdapterWeights,
    Counted,
    Description,
    GenerateRequest,
    TokenEvent,
)
from lateen_serving.engine.thread import TorchThread
from lateen_serving.engine.threaded import ThreadedEngine
from lateen_serving.engine.vocabulary import Vocabulary
from lateen_serving.errors import LoadError, NotFound

if TYPE_CHECKING:
    from lateen_serving.engine.prompt import PromptEncoder, Spans
    from lateen_serving.engine.scheduler import Scheduler


@dataclass(frozen=True)
class Facts:
    """What the event loop's side needs from the loaded model."""

    prompts: "PromptEncoder"
    spans: "Spans"
    vocabulary: Vocabulary
    description: Description


@dataclass(frozen=True)
class LoadedAdapter:
    """A LoRA adapter that requests may name."""

    key: str
    """What the torch thread calls it."""
    identity: str


class TextGenerator(ThreadedEngine[Facts]):
    """An `Engine` that generates text."""

    does = "generates text"

    def __init__(self, thread: TorchThread[GenerateJob | AdaptersJob | RoomJob], facts: Facts) -> None:
        super().__init__(thread, facts)
        self._grammars = Grammars(facts.vocabulary)
        self._adapters: dict[str, LoadedAdapter] = {}
        self._loaded_keys: set[str] = set()
        self._adapter_keys = itertools.count()
        self._changing_adapters = asyncio.Lock()
        # One worker: the prompt encoder and the grammars are not safe to use from two threads.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    @classmethod
    async def create(cls, options: LoadOptions) -> "TextGenerator":
        """Load the weights and start; raises LoadError."""
        thread: TorchThread[GenerateJob | AdaptersJob | RoomJob] = TorchThread("torch")
        facts = await thread.start(lambda: load(options))
        return cls(thread, facts)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Continue a conversation or a text; see `protocol.Engine`. Raises NotFound for an unknown adapter."""
        admission.validate(request, self._facts.vocabulary.size)
        self._thread.check()
        self._adapter_key(request)
        loop = asyncio.get_running_loop()
        prompt, constraint = await loop.run_in_executor(self._tokenizing, self._prepare, request)
        channel: Channel[TokenEvent] = Channel()
        job = GenerateJob(
            prompt=prompt.tokens,
            limit=admission.check_room(prompt.tokens, request, self._context()),
            rules=Rules.of(request),
            stop=request["stop"],
            channel=channel,
            logprobs=request.get("logprobs"),
            constraint=constraint,
            # Asked again: it may have been replaced meanwhile. From here on the torch thread keeps it for this request.
            adapter=self._adapter_key(request),
        )
        try:
            self._thread.submit(job)
            finished = False
            cut = prompt.cut
            while not finished:
                event = merged(await channel.receive())
                if cut:
                    event, cut = TokenEvent(**event, cut=cut), []
                finished = "finish_reason" in event
                yield event
        finally:
            channel.cancel()

    async def count(self, request: GenerateRequest) -> Counted:
        """See `protocol.Engine`."""
        admission.validate(request, self._facts.vocabulary.size)
        loop = asyncio.get_running_loop()
        prompt, _ = await loop.run_in_executor(self._tokenizing, self._prepare, request)
        admission.check_room(prompt.tokens, request, self._context())
        return prompt.counted()

    def _context(self) -> int:
        return self._facts.description["max_tokens"]

    def _prepare(self, request: GenerateRequest) -> tuple[window.Prompt, Constraint | None]:
        """Tokens and compiled grammar of a request; runs in the tokenizing thread. Raises InputError."""
        if "logprobs" in request:
            self._facts.vocabulary.bytes_of(0)  # made here if it must be made, not in the torch thread
        constraint = self._grammars.compile(request["grammar"]) if "grammar" in request else None
        return window.prepare(self._facts.prompts, request, self._context()), constraint

    def _adapter_key(self, request: GenerateRequest) -> str | None:
        if "adapter" not in request:
            return None
        adapter = self._adapters.get(request["adapter"])
        if adapter is None:
            raise NotFound(f"this model has no adapter {request['adapter']!r} now", param="model")
        return adapter.key

    async def set_adapters(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """See `protocol.Engine`. An adapter that is replaced serves until the new weights are loaded."""
        async with self._changing_adapters:
            wanted = {adapter["name"]: adapter["identity"] for adapter in adapters}
            kept = {name: one for name, one in self._adapters.items() if one.identity == wanted.get(name)}
            fresh = [adapter for adapter in adapters if adapter["name"] not in kept]
            self._adapters = {name: one for name, one in self._adapters.items() if name in wanted}
            failures: dict[str, str] = {}
            for adapter in fresh:
                key = f"a{next(self._adapter_keys)}"
                reason = await self._load_adapter(key, Path(adapter["folder"]))
                if reason:
                    failures[adapter["name"]] = reason
                else:
                    kept[adapter["name"]] = LoadedAdapter(key, adapter["identity"])
            self._adapters = kept
            self._loaded_keys, old = {one.key for one in kept.values()}, self._loaded_keys
            if old - self._loaded_keys:
                await self._change_adapters({}, frozenset(old - self._loaded_keys))
            return failures

    async def _load_adapter(self, key: str, folder: Path) -> str:
        """Read an adapter here and have the torch thread take it; why that can't be done, or nothing."""
        try:
            files = await asyncio.to_thread(adapter_files.read, folder)
        except LoadError as error:
            return error.message
        return (await self._change_adapters({key: files}, frozenset())).get(key, "")

    async def _change_adapters(
        self, load: Mapping[str, AdapterFiles], unload: frozenset[str]
    ) -> dict[str, str]:
        """Have the torch thread do it; why those that could not be loaded were not, by key."""
        channel: Channel[dict[str, str]] = Channel()
        self._thread.submit(AdaptersJob(load, unload, channel))
        return (await channel.receive())[0]

    def make_room(self, requests: int) -> None:
        """See `protocol.Engine`. Raises Unavailable when the torch thread has ended."""
        self._thread.submit(RoomJob(requests))

    async def aclose(self) -> None:
        """End the torch thread; running requests end with Unavailable."""
        await super().aclose()
        self._tokenizing.shutdown(wait=False)


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
    vocabulary = Vocabulary(spans.tokenizer, model.vocabulary, end_tokens(loaded))
    limits = Limits(
        rows=options.max_rows,
        cache_tokens=_cache_tokens(options, model.bytes_per_token, loaded.max_tokens),
        chunk_tokens=8192 if options.device == "cuda" else 512,
    )
    description = loaded.describe(loaded.max_tokens, dimension=0)
    facts = Facts(PromptEncoder(loaded.tokenizer), spans, vocabulary, description)
    return Scheduler(model, vocabulary, limits), facts


def _cache_tokens(options: LoadOptions, bytes_per_token: int, context: int) -> int:
    """Tokens whose keys and values fit; at least one full context, so that every request can be served."""
    import torch

    budget = options.cache_bytes
    if budget is None:
        budget = int(torch.cuda.mem_get_info()[0] * 0.7) if options.device == "cuda" else 2**30
    return max(context, budget // max(1, bytes_per_token))
