# SPDX-License-Identifier: Apache-2.0
"""Chooses the next token of each row of a batch, each row by its own rules and its own random numbers.

Used by `scheduler.py` in the torch thread. A row whose logits are broken is reported, the others are served.
The cuts come in the order of transformers' `generate`: temperature, top_k, top_p of what is left, min_p.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lateen_serving.engine.jobs import Rules

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: float32 can't divide by them."""

_CANDIDATES = 256
"""Tokens looked at first for top_p; their mass nearly always suffices, and a full sort costs twenty times more."""


@dataclass(frozen=True)
class Sampling:
    """How one request's tokens are chosen."""

    rules: Rules
    random: torch.Generator = field(compare=False)

    @classmethod
    def of(cls, rules: Rules) -> "Sampling":
        """With a random generator of its own, seeded from the rules' seed or else from the system."""
        number = int.from_bytes(os.urandom(8)) if rules.seed is None else rules.seed
        generator = torch.Generator()
        generator.manual_seed(number & (2**63 - 1))
        return cls(rules, generator)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.rules.temperature < GREEDY_BELOW


@dataclass(frozen=True)
class _Cuts:
    """Rules of several rows as columns, each (rows, 1)."""

    top_k: torch.Tensor
    """Number of likeliest tokens that stay; the vocabulary's size where all do."""
    top_p: torch.Tensor
    min_p: torch.Tensor
    """As a logarithm."""

    def of(self, rows: torch.Tensor) -> "_Cuts":
        """Those of some rows."""
        return _Cuts(self.top_k[rows], self.top_p[rows], self.min_p[rows])


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


def _draw(logits: torch.Tensor, samplings: Sequence[Sampling]) -> list[int]:
    device, size = logits.device, logits.shape[-1]
    rules = [sampling.rules for sampling in samplings]
    temperature = torch.tensor([rule.temperature for rule in rules], device=device).unsqueeze(1)
    uniform = torch.cat([torch.rand(1, generator=one.random) for one in samplings]).to(device).unsqueeze(1)
    cuts = _Cuts(
        torch.tensor([min(rule.top_k or size, size) for rule in rules], device=device).unsqueeze(1),
        torch.tensor([rule.top_p for rule in rules], device=device).unsqueeze(1),
        torch.tensor([rule.min_p for rule in rules], device=device).unsqueeze(1).log(),
    )
    # The largest logit becomes 0, so that a tiny temperature can't overflow.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    log_total = scaled.logsumexp(dim=-1, keepdim=True)
    tokens = torch.empty(len(rules), dtype=torch.long, device=device)
    ranked = ((cuts.top_p < 1.0) | (cuts.top_k < size)).squeeze(1)
    whole = (~ranked).nonzero().squeeze(1)
    if whole.numel():
        mass = (scaled[whole] - log_total[whole]).exp()
        tokens[whole] = _pick(torch.where(scaled[whole] >= cuts.min_p[whole], mass, 0.0), uniform[whole])
    cut = ranked.nonzero().squeeze(1)
    if cut.numel():
        tokens[cut] = _likeliest(scaled[cut], log_total[cut], cuts.of(cut), uniform[cut])
    result: list[int] = tokens.tolist()
    return result


def _likeliest(
    scaled: torch.Tensor, log_total: torch.Tensor, cuts: _Cuts, uniform: torch.Tensor
) -> torch.Tensor:
    """Draw from the top_k likeliest tokens, of them from the fewest whose mass reaches top_p, and only from likely ones."""
    size = scaled.shape[-1]
    bounded = cuts.top_k < size
    count = min(max(_CANDIDATES, int(cuts.top_k[bounded].max()) if bounded.any() else 0), size)
    values, order = scaled.topk(count, dim=-1)
    reached = (values - log_total).exp().sum(dim=-1, keepdim=True) >= cuts.top_p
    if count < size and not bool((reached | bounded).all()):
        values, order = scaled.sort(dim=-1, descending=True)
    ranks = torch.arange(values.shape[-1], device=scaled.device)
    values = values.masked_fill(ranks >= cuts.top_k, float("-inf"))
    total = torch.where(bounded, values.logsumexp(dim=-1, keepdim=True), log_total)
    mass = (values - total).exp()
    before = mass.cumsum(dim=-1) - mass
    kept = torch.where((before < cuts.top_p) & (values >= cuts.min_p), mass, 0.0)
    return order.gather(1, _pick(kept, uniform).unsqueeze(1)).squeeze(1)


def _pick(mass: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """One index per row, each with probability proportional to its mass."""
    cumulative = mass.double().cumsum(dim=-1)
    target = uniform.double() * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    # Rounding may point behind the last token that has any mass.
    last = (mass > 0).long().mul(torch.arange(mass.shape[-1], device=mass.device)).amax(dim=-1)
    return torch.minimum(index, last)
