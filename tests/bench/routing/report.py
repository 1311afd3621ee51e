# SPDX-License-Identifier: Apache-2.0
"""The result of all scenarios as a document, and as tables in Markdown. Called by `__main__.py`. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bench.routing.costs import Costs
from bench.routing.scenarios import SCENARIOS, STRATEGIES, Figures, run

COUNTS = (2, 8, 64)
SECONDS = 120.0
_COLUMNS = ("tokens/s", "of RoundRobin's", "p95", "p99", "TTFT p95", "prompt known", "failed")

Results = dict[str, dict[int, dict[str, Figures]]]


def measure(costs: Costs, counts: Sequence[int], say: Callable[[str], None]) -> Results:
    """Figures by scenario, number of replicas, and strategy."""
    results: Results = {}
    for name, scenario in SCENARIOS.items():
        results[name] = {}
        for count in counts:
            say(f"{name}, {count} replicas")
            results[name][count] = {
                strategy: run(scenario, strategy, count, costs, SECONDS) for strategy in STRATEGIES
            }
    return results


def document(costs: Costs, results: Results) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "costs": costs.model_dump(),
        "simulated_seconds": SECONDS,
        "scenarios": {
            name: {
                "title": SCENARIOS[name].title,
                "users_per_replica": SCENARIOS[name].users_per_replica,
                "pause_seconds": SCENARIOS[name].pause_seconds,
                "replicas": {
                    str(count): {strategy: asdict(figures) for strategy, figures in by_strategy.items()}
                    for count, by_strategy in by_count.items()
                },
            }
            for name, by_count in results.items()
        },
    }


def tables(results: Results) -> str:
    """One table for each scenario."""
    return "\n".join(line for name in results for line in _table(name, results)).rstrip()


def _table(name: str, results: Results) -> Iterator[str]:
    scenario = SCENARIOS[name]
    yield f"**{scenario.title}**, {scenario.users_per_replica} users for each replica"
    yield ""
    yield _row("replicas", "strategy", *_COLUMNS)
    yield "|---|---|" + "--:|" * len(_COLUMNS)
    for count, by_strategy in results[name].items():
        base = by_strategy["RoundRobin"].tokens_per_second
        for strategy, figures in by_strategy.items():
            yield _row(str(count), strategy, *_cells(figures, base))
    yield ""


def _cells(figures: Figures, base: float) -> Sequence[str]:
    return (
        f"{figures.tokens_per_second:.0f}",
        f"{figures.tokens_per_second / base:.2f}",
        f"{figures.p95_seconds:.1f} s",
        f"{figures.p99_seconds:.1f} s",
        f"{figures.ttft_p95_seconds:.2f} s",
        f"{100 * figures.known_share:.0f} %",
        f"{100 * figures.failed_share:.1f} %",
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
