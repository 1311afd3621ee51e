# SPDX-License-Identifier: Apache-2.0
"""Chooses the next token of each row of a batch, each row by its own rules and its own random numbers.

Used by `scheduler.py` in the torch thread. A row whose logits are broken is reported, the others are served.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: float32 can't divide by them."""

_CANDIDATES = 256
"""Tokens looked at first for top_p; their mass nearly always suffices, and a full sort costs twenty times more."""


@dataclass(frozen=True)
class Sampling:
    """How one request's tokens are chosen."""

    temperature: float
    top_p: float
    random: torch.Generator = field(compare=False)

    @classmethod
    def of(cls, temperature: float, top_p: float, seed: int | None) -> "Sampling":
        """Rules with a random generator of their own, seeded from `seed` or else from the system."""
        number = int.from_bytes(os.urandom(8)) if seed is None else seed
        generator = torch.Generator()
        generator.manual_seed(number & (2**63 - 1))
        return cls(temperature, top_p, generator)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < GREEDY_BELOW


def choose(logits: torch.Tensor, rules: Sequence[Sampling]) -> list[int | None]:
    """The next token of each row of `logits` (rows, vocabulary); None for a row with unusable logits."""
    logits = logits.float()
    best, arg = logits.max(dim=-1)
    healthy = torch.isfinite(best).tolist()
    chosen: list[int | None] = [
        token if ok else None for token, ok in zip(arg.tolist(), healthy, strict=True)
    ]
    drawn = [row for row, rule in enumerate(rules) if healthy[row] and not rule.greedy]
    if drawn:
        for row, token in zip(drawn, _draw(logits[drawn], [rules[row] for row in drawn]), strict=True):
            chosen[row] = token
    return chosen


def _draw(logits: torch.Tensor, rules: Sequence[Sampling]) -> list[int]:
    device = logits.device
    temperature = torch.tensor([rule.temperature for rule in rules], device=device).unsqueeze(1)
    top_p = torch.tensor([rule.top_p for rule in rules], device=device).unsqueeze(1)
    uniform = torch.cat([torch.rand(1, generator=rule.random) for rule in rules]).to(device).unsqueeze(1)
    # The largest logit becomes 0, so that a tiny temperature can't overflow.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    log_total = scaled.logsumexp(dim=-1, keepdim=True)
    tokens = torch.empty(len(rules), dtype=torch.long, device=device)
    whole = top_p.squeeze(1) >= 1.0
    if whole.any():
        tokens[whole] = _pick((scaled[whole] - log_total[whole]).exp(), uniform[whole])
    cut = (~whole).nonzero().squeeze(1)
    if cut.numel():
        tokens[cut] = _nucleus(scaled[cut], log_total[cut], top_p[cut], uniform[cut])
    result: list[int] = tokens.tolist()
    return result


def _nucleus(
    scaled: torch.Tensor, log_total: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """Draw from the smallest set of likeliest tokens whose mass reaches top_p."""
    count = min(_CANDIDATES, scaled.shape[-1])
    values, order = scaled.topk(count, dim=-1)
    mass = (values - log_total).exp()
    if count < scaled.shape[-1] and bool((mass.sum(dim=-1, keepdim=True) < top_p).any()):
        values, order = scaled.sort(dim=-1, descending=True)
        mass = (values - log_total).exp()
    before = mass.cumsum(dim=-1) - mass
    kept = torch.where(before < top_p, mass, 0.0)
    return order.gather(1, _pick(kept, uniform).unsqueeze(1)).squeeze(1)


def _pick(mass: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """One index per row, each with probability proportional to its mass."""
    cumulative = mass.double().cumsum(dim=-1)
    target = uniform.double() * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    # Rounding may point behind the last token that has any mass.
    last = (mass > 0).long().mul(torch.arange(mass.shape[-1], device=mass.device)).amax(dim=-1)
    return torch.minimum(index, last)
