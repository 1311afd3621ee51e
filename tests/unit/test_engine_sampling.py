# SPDX-License-Identifier: Apache-2.0
"""Choosing tokens: each row by its own rules."""

import pytest
import torch

from lateen_serving.engine.sampling import Sampling, choose

LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def frequencies(temperature: float, top_p: float, draws: int = 4000) -> list[float]:
    """How often each token comes out."""
    rules = [Sampling.of(temperature, top_p, seed) for seed in range(draws)]
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


def test_a_flat_distribution_needs_more_than_the_first_candidates() -> None:
    """top_p stays exact where the likeliest 256 tokens don't hold enough mass."""
    rules = [Sampling.of(1.0, 0.999, seed) for seed in range(200)]
    tokens = choose(torch.linspace(0, 0.1, 4000).repeat(200, 1), rules)
    assert min(token for token in tokens if token is not None) < 2000
    assert all(token is not None and token >= 3 for token in tokens)


def test_rows_keep_their_own_rules() -> None:
    """Greedy and sampled rows share a batch, and a seed decides alone."""

    def draw(seed: int) -> list[int | None]:
        rules = [Sampling.of(0, 1, None), Sampling.of(2, 1, seed), Sampling.of(2, 0.95, seed)]
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
    tokens = choose(logits, [Sampling.of(temperature, 0.5, 1)] * 2)
    assert tokens == [None, 0]


def test_impossible_tokens_are_never_drawn() -> None:
    """Tokens with a probability of zero stay out, at any temperature."""
    logits = torch.tensor([float("-inf"), 0.0, float("-inf")]).repeat(100, 1)
    for top_p in (1.0, 0.9):
        assert set(choose(logits, [Sampling.of(5.0, top_p, seed) for seed in range(100)])) == {1}
