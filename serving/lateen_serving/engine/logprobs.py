# SPDX-License-Identifier: Apache-2.0
"""How likely tokens were, and which of them go out with which piece of text.

Used by `rows.py` in the torch thread.
"""

from collections import deque

import torch

from lateen_serving.engine.protocol import TokenChoice, TokenLogprob
from lateen_serving.engine.text import AnswerText
from lateen_serving.engine.vocabulary import Vocabulary

_LEAST = -9999.0
"""Stands for a probability of zero, whose logarithm JSON can't write; OpenAI's number."""


def measure(logits: torch.Tensor, token: int, top: int, vocabulary: Vocabulary) -> TokenLogprob:
    """How likely `token` and the `top` likeliest tokens are by `logits` (vocabulary,), in natural logarithms."""
    values = logits.float().log_softmax(dim=-1)
    best = values.topk(min(top, len(values)))
    ids, scores = best.indices.tolist(), best.values.tolist()
    return TokenLogprob(
        **_choice(token, float(values[token]), vocabulary),
        top=[_choice(one, score, vocabulary) for one, score in zip(ids, scores, strict=True)],
    )


def _choice(token: int, logprob: float, vocabulary: Vocabulary) -> TokenChoice:
    raw = vocabulary.bytes_of(token)
    return TokenChoice(token=raw.decode(errors="replace"), bytes=list(raw), logprob=max(logprob, _LEAST))


class Alignment:
    """Holds the log probability of each token back until its text has been sent."""

    def __init__(self, text: AnswerText) -> None:
        self._text = text
        self._unfinished: list[TokenLogprob] = []
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        """With the number of characters that must have been sent."""

    def push(self, item: TokenLogprob) -> None:
        """Take a token's; called after the text has taken the token."""
        self._unfinished.append(item)
        if not self._text.unfinished:
            self._waiting.extend((self._text.decoded, one) for one in self._unfinished)
            self._unfinished = []

    def ready(self) -> list[TokenLogprob]:
        """Those of tokens whose text has been sent whole."""
        items = []
        while self._waiting and self._waiting[0][0] <= self._text.sent:
            items.append(self._waiting.popleft()[1])
        return items

    def rest(self) -> list[TokenLogprob]:
        """All that are left when an answer ends by itself; a character that was never finished is among them."""
        return [item for _, item in self._waiting] + self._unfinished
