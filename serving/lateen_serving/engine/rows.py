# SPDX-License-Identifier: Apache-2.0
"""One generation request inside the torch thread: its tokens, its rules, what it sends.

Used by `scheduler.py`.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch

from lateen_serving.engine.decoder import Decoder
from lateen_serving.engine.failures import out_of_memory
from lateen_serving.engine.jobs import GenerateJob
from lateen_serving.engine.logprobs import Alignment, measure
from lateen_serving.engine.protocol import TokenEvent, TokenLogprob
from lateen_serving.engine.sampling import Sampling
from lateen_serving.engine.shaping import Shaping
from lateen_serving.engine.text import AnswerText
from lateen_serving.engine.vocabulary import Vocabulary


@dataclass(eq=False)
class Row:
    """A request that is waiting, being read or being answered."""

    job: GenerateJob
    sampling: Sampling
    shaping: Shaping | None
    text: AnswerText
    vocabulary: Vocabulary
    alone: bool
    """Never shares a batch: arithmetic differs slightly with the batch, and this request must be repeatable."""
    logprobs: Alignment | None
    """Where log probabilities wait for their text; None when none are asked for."""
    suspect: bool = False
    """A pass that it shared has failed; it is read and answered by itself until it has shown that it can be."""
    suspicions: int = 0
    """How often it became a suspect, want of memory left out. After the second time it shares no further pass."""
    answer: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, job: GenerateJob, vocabulary: Vocabulary, model: Decoder) -> "Row":
        """A row that has not started."""
        text = AnswerText(vocabulary.decode, job.stop)
        return cls(
            job,
            Sampling.of(job.rules),
            Shaping.of(job, vocabulary.size, model.device),
            text,
            vocabulary,
            alone=job.rules.seed is not None or not model.joinable,
            logprobs=None if job.logprobs is None else Alignment(text),
        )

    @property
    def apart(self) -> bool:
        """Whether it shares a batch with no other, for now or for good."""
        return self.alone or self.suspect

    def doubt(self, error: Exception) -> None:
        """Have it tried by itself: a pass that it shared with others has failed."""
        self.suspect = True
        self.suspicions += not out_of_memory(error)

    def clear(self) -> bool:
        """Take the suspicion off a row that was answered by itself; False where it stays apart."""
        self.suspect = self.suspicions > 1
        return not self.apart

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer so far."""
        return self.job.prompt + self.answer

    @property
    def length(self) -> int:
        """Number of those tokens."""
        return len(self.job.prompt) + len(self.answer)

    def measure(self, logits: torch.Tensor, token: int) -> TokenLogprob:
        """How likely `token` was by the model's own `logits` (vocabulary,)."""
        return measure(logits, token, self.job.logprobs or 0, self.vocabulary)

    def accept(self, token: int, logprob: TokenLogprob | None = None) -> tuple[TokenEvent | None, bool]:
        """Take the next token: what to send, if anything, and whether the answer is complete.

        Raises ModelError when the grammar does not know the token.
        """
        self.answer.append(token)
        complete = self.shaping.accept(token) if self.shaping is not None else False
        if token in self.vocabulary.ends:
            return self._end(self.text.flush(), "stop"), True
        text, stopped = self.text.push(token)
        if self.logprobs is not None and logprob is not None:
            self.logprobs.push(logprob)
        if stopped:
            return self._event(text, "stop"), True
        if complete or len(self.answer) >= self.job.limit:
            return self._end(text + self.text.flush(), "stop" if complete else "length"), True
        return (self._event(text) if text else None), False

    def _end(self, text: str, finish: Literal["stop", "length"]) -> TokenEvent:
        """The last event of an answer that no stop text cuts: everything held back goes with it."""
        event = self._event(text, finish)
        if self.logprobs is not None:
            event["logprobs"] += self.logprobs.rest()
        return event

    def _event(self, text: str, finish: Literal["stop", "length"] | None = None) -> TokenEvent:
        event = TokenEvent(text=text, prompt_tokens=len(self.job.prompt), completion_tokens=len(self.answer))
        if self.logprobs is not None:
            event["logprobs"] = self.logprobs.ready()
        if finish is not None:
            event["finish_reason"] = finish
        return event
