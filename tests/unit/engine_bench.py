# SPDX-License-Identifier: Apache-2.0
"""A scheduler that tests drive step by step, in their own thread, with failures put into the model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine_models import Reference
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.decoder import Decoder, State
from lateen_serving.engine.jobs import GenerateJob, Rules
from lateen_serving.engine.prompt import own_copy
from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.engine.scheduler import Limits, Scheduler
from lateen_serving.engine.vocabulary import Vocabulary

ROOMY = Limits(rows=8, cache_tokens=10_000, chunk_tokens=512)


class Faulty(Decoder):
    """A decoder whose passes can be made to fail."""

    fault: Callable[[torch.Tensor, torch.Tensor], None] = staticmethod(lambda _ids, _logits: None)
    passes: int = 0
    keys: Sequence[str | None] = ()
    """Of the rows of the latest pass, the keys of their adapters; none is loaded, so they change no answer."""

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, state: State, adapters: Sequence[str | None] = ()
    ) -> torch.Tensor:
        logits = super().forward(ids, mask, state, adapters)
        self.passes += 1
        self.keys = adapters
        self.fault(ids, logits)
        return logits


class Bench:
    """A scheduler with its model, driven by hand."""

    def __init__(self, reference: Reference, limits: Limits = ROOMY, end: int = 257) -> None:
        self.reference = reference
        self.model = Faulty(reference.model, "cpu")
        vocabulary = Vocabulary(own_copy(reference.tokenizer), self.model.vocabulary, frozenset({end}))
        self.vocabulary = vocabulary
        self.scheduler = Scheduler(self.model, vocabulary, limits)

    def ask(self, text: str, limit: int = 12, rules: Rules = Rules(), **changes: Any) -> Channel[TokenEvent]:  # noqa: B008 - frozen
        """Queue a request."""
        job = self.job(text, limit, rules, **changes)
        self.scheduler.add(job)
        return job.channel

    def job(self, text: str, limit: int = 12, rules: Rules = Rules(), **changes: Any) -> GenerateJob:  # noqa: B008 - frozen
        """A request."""
        return GenerateJob(self.reference.prompt(text), limit, rules, stop=[], channel=Channel(), **changes)

    def run(self) -> None:
        """Step until idle; a bound keeps a mistake from hanging the test."""
        for _ in range(500):
            if not self.scheduler.step():
                return
        raise AssertionError("the scheduler never became idle")


async def text_of(channel: Channel[TokenEvent]) -> str:
    """Everything that was sent."""
    text, finished = "", False
    while not finished:
        for event in await channel.receive():
            text += event["text"]
            finished = "finish_reason" in event
    return text
