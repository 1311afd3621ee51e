# SPDX-License-Identifier: Apache-2.0
"""What changes one row's logits before its next token is chosen: penalties, biases and grammar.

Used by `rows.py` and `scheduler.py` in the torch thread. Rows that ask for none of it have no Shaping and cost nothing.
"""

import torch

from lateen_serving.engine.jobs import GenerateJob, Rules


class Shaping:
    """The changes of one row, which depend on the tokens of its answer so far."""

    def __init__(self, job: GenerateJob, size: int, device: torch.device) -> None:
        self._rules = job.rules
        self._constraint = job.constraint
        self._seen: set[int] = set()
        self._offset: torch.Tensor | None = None
        """(vocabulary,): what is added to the logits."""
        if _has_offset(job.rules):
            self._offset = torch.zeros(size, device=device)
            for token, bias in job.rules.logit_bias.items():
                self._offset[token] = bias

    @classmethod
    def of(cls, job: GenerateJob, size: int, device: torch.device) -> "Shaping | None":
        """The changes that `job` asks for; None if it asks for none."""
        return cls(job, size, device) if job.constraint or _has_offset(job.rules) else None

    def apply(self, logits: torch.Tensor) -> None:
        """Change `logits` (vocabulary,), float32, in place; raises ModelError when the grammar fails."""
        if self._offset is not None:
            logits += self._offset
        if self._constraint is not None:
            allowed = torch.from_numpy(self._constraint.allowed(len(logits))).to(logits.device)
            logits.masked_fill_(~allowed, float("-inf"))

    def accept(self, token: int) -> bool:
        """Note the next token of the answer; whether the grammar ends the answer with it."""
        if self._offset is not None:
            # OpenAI: logit -= count * frequency_penalty + (count > 0) * presence_penalty
            penalty = self._rules.frequency_penalty
            if token not in self._seen:
                self._seen.add(token)
                penalty += self._rules.presence_penalty
            if penalty:
                self._offset[token] -= penalty
        return self._constraint.accept(token) if self._constraint is not None else False


def _has_offset(rules: Rules) -> bool:
    return bool(rules.presence_penalty or rules.frequency_penalty or rules.logit_bias)
