# SPDX-License-Identifier: Apache-2.0
"""The strategies keep their promises in the simulator, which is deterministic: no figure depends on the machine."""

import functools

from bench.routing import costs
from bench.routing.scenarios import SCENARIOS, STRATEGIES, Figures, run


@functools.cache
def figures(scenario: str, strategy: str, count: int = 8) -> Figures:
    """What a strategy achieves in 120 simulated seconds."""
    return run(SCENARIOS[scenario], strategy, count, costs.measured(), 120.0)


def test_a_simulation_repeats_itself() -> None:
    """Equal runs give equal figures."""
    again = run(SCENARIOS["shared_prefixes"], "PrefixAware", 8, costs.measured(), 120.0)
    assert again == figures("shared_prefixes", "PrefixAware")


def test_prefix_aware_pays_off_on_shared_prefixes() -> None:
    """At least 1.4 times the throughput of RoundRobin, because fewer prompts are read twice."""
    aware, plain = figures("shared_prefixes", "PrefixAware"), figures("shared_prefixes", "RoundRobin")
    assert aware.tokens_per_second >= 1.4 * plain.tokens_per_second
    assert aware.known_share > plain.known_share


def test_prefix_aware_costs_nothing_where_nothing_is_shared() -> None:
    """At least 0.98 times the throughput of RoundRobin."""
    aware, plain = figures("unique_prompts", "PrefixAware"), figures("unique_prompts", "RoundRobin")
    assert aware.tokens_per_second >= 0.98 * plain.tokens_per_second


def test_prefix_aware_gains_nothing_without_a_cache() -> None:
    """The gain is the prefix cache's, not the strategy's."""
    without = costs.measured().model_copy(update={"cache_tokens": 0})
    aware, plain = (
        run(SCENARIOS["shared_prefixes"], name, 8, without, 60.0) for name in ("PrefixAware", "RoundRobin")
    )
    assert 0.95 < aware.tokens_per_second / plain.tokens_per_second < 1.05
    assert aware.known_share == 0


def test_response_time_halves_the_tail_that_one_slow_replica_makes() -> None:
    """p95 is at most half of RoundRobin's with 2 and with 8 replicas."""
    for count in (2, 8):
        timed, plain = (
            figures("slow_replica", strategy, count) for strategy in ("ResponseTime", "RoundRobin")
        )
        assert timed.p95_seconds <= plain.p95_seconds / 2


def test_no_strategy_falls_for_a_replica_that_fails_at_once() -> None:
    """Fewer requests fail than one in a hundred, though an eighth of the replicas fails."""
    for strategy in STRATEGIES:
        assert figures("failing_replica", strategy).failed_share < 0.01
