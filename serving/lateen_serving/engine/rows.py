# SPDX-License-Identifier: Apache-2.0
"""One generation request inside the torch thread: its tokens, its rules, what it sends.

Used by `scheduler.py`.
"""

from dataclasses import dataclass, field
from typing import Literal

from lateen_serving.engine.jobs import GenerateJob
from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.engine.sampling import Sampling
from lateen_serving.engine.text import AnswerText, Decode
from lateen_serving.errors import ModelError


@dataclass(eq=False)
class Row:
    """A request that is waiting, being read or being answered."""

    job: GenerateJob
    sampling: Sampling
    text: AnswerText
    alone: bool
    """Never shares a batch: arithmetic differs slightly with the batch, and this request must be repeatable."""
    suspect: bool = False
    """Its first reading failed in company; it is tried again by itself."""
    answer: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, job: GenerateJob, decode: Decode, joinable: bool) -> "Row":
        """A row that has not started."""
        return cls(
            job,
            Sampling.of(job.temperature, job.top_p, job.seed),
            AnswerText(decode, job.stop),
            alone=job.seed is not None or not joinable,
        )

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer so far."""
        return self.job.prompt + self.answer

    @property
    def length(self) -> int:
        """Number of those tokens."""
        return len(self.job.prompt) + len(self.answer)

    def accept(self, token: int | None, ends: frozenset[int]) -> tuple[TokenEvent | ModelError | None, bool]:
        """Take the next token: what to send, if anything, and whether the answer is complete."""
        if token is None:
            return ModelError("the model's arithmetic failed on this request (not a number)"), True
        self.answer.append(token)
        if token in ends:
            return self._event(self.text.flush(), "stop"), True
        text, stopped = self.text.push(token)
        if stopped:
            return self._event(text, "stop"), True
        if len(self.answer) >= self.job.limit:
            return self._event(text + self.text.flush(), "length"), True
        return (self._event(text) if text else None), False

    def _event(self, text: str, finish: Literal["stop", "length"] | None = None) -> TokenEvent:
        event = TokenEvent(text=text, prompt_tokens=len(self.job.prompt), completion_tokens=len(self.answer))
        if finish is not None:
            event["finish_reason"] = finish
        return event
