# SPDX-License-Identifier: Apache-2.0
"""Choosing tokens: each row by its own rules."""

from typing import Any

import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lateen_serving.engine.jobs import Rules
from lateen_serving.engine.sampling import Sampling, choose

LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def frequencies(temperature: float, top_p: float, draws: int = 4000, **cuts: Any) -> list[float]:
    """How often each token comes out."""
    rules = [Sampling.of(Rules(temperature, top_p, seed, **cuts)) for seed in range(draws)]
    tokens = choose(LOGITS.repeat(draws, 1), rules)
    return [tokens.count(token) / draws for token in range(4)]


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (0.0, 1.0, [1, 0, 0, 0]),
        (1e-7, 0.5, [1, 0, 0, 0]),
        (1.0, 1.0, [0.5, 0.25, 0.125, 0.125]),
        (1.0, 0.7, [2 / 3, 1 / 3, 0, 0]),
        (1.0, 0.5, [1, 0, 0, 0]),
        (1.0, 1e-9, [1, 0, 0, 0]),
        (0.5, 1.0, [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        (1000.0, 1.0, [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_tokens_come_as_often_as_their_probability(
    temperature: float, top_p: float, expected: list[float]
) -> None:
    """Temperature and nucleus shape the distribution as defined."""
    assert frequencies(temperature, top_p) == pytest.approx(expected, abs=0.035)


@pytest.mark.parametrize(
    ("cuts", "top_p", "expected"),
    [
        ({"top_k": 1}, 1.0, [1, 0, 0, 0]),
        ({"top_k": 2}, 1.0, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 2}, 0.6, [1, 0, 0, 0]),
        ({"top_k": 10**9}, 1.0, [0.5, 0.25, 0.125, 0.125]),
        ({"min_p": 0.5}, 1.0, [2 / 3, 1 / 3, 0, 0]),
        ({"min_p": 0.51}, 1.0, [1, 0, 0, 0]),
        ({"min_p": 1.0}, 1.0, [1, 0, 0, 0]),
        ({"min_p": 0.4}, 0.95, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 3, "min_p": 0.3}, 0.9, [2 / 3, 1 / 3, 0, 0]),
    ],
)
def test_cuts_combine(cuts: dict[str, Any], top_p: float, expected: list[float]) -> None:
    """top_k, then top_p of what is left, then min_p against the likeliest token."""
    assert frequencies(1.0, top_p, **cuts) == pytest.approx(expected, abs=0.035)


def test_cuts_equal_those_of_transformers() -> None:
    """Over a large vocabulary and several rules, exactly the tokens that transformers' warpers leave are drawn."""
    logits = torch.randn(1, 600, generator=torch.Generator().manual_seed(2)) * 3
    for top_k, top_p, min_p in (
        (0, 0.9, 0.0),
        (300, 0.99, 0.0),
        (20, 0.8, 0.05),
        (0, 1.0, 0.02),
        (5, 1.0, 0.0),
    ):
        warpers = [
            *([TopKLogitsWarper(top_k)] if top_k else []),
            *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
            *([MinPLogitsWarper(min_p)] if min_p else []),
        ]
        scores = logits / 0.8
        for warper in warpers:
            scores = warper(None, scores)
        left = set(scores[0].isfinite().nonzero().flatten().tolist())
        rules = [Sampling.of(Rules(0.8, top_p, seed, top_k, min_p)) for seed in range(3000)]
        drawn = choose(logits.repeat(3000, 1), rules)
        assert set(drawn) <= left
        assert len(set(drawn)) > len(left) * 0.5


def test_a_flat_distribution_needs_more_than_the_first_candidates() -> None:
    """top_p stays exact where the likeliest 256 tokens don't hold enough mass."""
    rules = [Sampling.of(Rules(1.0, 0.999, seed)) for seed in range(200)]
    tokens = choose(torch.linspace(0, 0.1, 4000).repeat(200, 1), rules)
    assert min(token for token in tokens if token is not None) < 2000
    assert all(token is not None and token >= 3 for token in tokens)


def test_rows_keep_their_own_rules() -> None:
    """Greedy and sampled rows share a batch, and a seed decides alone."""

    def draw(seed: int) -> list[int | None]:
        rules = [
            Sampling.of(Rules(0, 1, None)),
            Sampling.of(Rules(2, 1, seed)),
            Sampling.of(Rules(2, 0.95, seed)),
        ]
        return choose(torch.randn(3, 500, generator=torch.Generator().manual_seed(1)), rules)

    assert draw(1) == draw(1)
    assert draw(1)[0] == draw(2)[0]
    assert draw(1)[1:] != draw(2)[1:]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_row_is_reported_and_the_others_served(broken: float, temperature: float) -> None:
    """A row with unusable numbers gets None."""
    logits = LOGITS.repeat(2, 1)
    logits[0, 2] = broken
    tokens = choose(logits, [Sampling.of(Rules(temperature, 0.5, 1))] * 2)
    assert tokens == [None, 0]


def test_impossible_tokens_are_never_drawn() -> None:
    """Tokens with a probability of zero stay out, at any temperature."""
    logits = torch.tensor([float("-inf"), 0.0, float("-inf")]).repeat(100, 1)
    for top_p in (1.0, 0.9):
        assert set(choose(logits, [Sampling.of(Rules(5.0, top_p, seed)) for seed in range(100)])) == {1}
