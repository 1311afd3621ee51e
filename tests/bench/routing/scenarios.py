# SPDX-License-Identifier: Apache-2.0
"""The situations in which strategies are compared, and what comes out. Called by `__main__.py` and by the unit test."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.routing.costs import Costs
from bench.routing.engine import Replica
from bench.routing.simulation import Outcome, Simulation
from bench.routing.workload import Chats, Unique, Workload
from lateen_serving.routing.policy import Policy
from lateen_serving.routing.prefix_aware import PrefixAware
from lateen_serving.routing.response_time import ResponseTime
from lateen_serving.routing.turns import LeastLoaded, RoundRobin

STRATEGIES: Mapping[str, Callable[[], Policy]] = {
    "RoundRobin": RoundRobin,
    "LeastLoaded": LeastLoaded,
    "ResponseTime": ResponseTime,
    "PrefixAware": PrefixAware,
}


@dataclass(frozen=True)
class Scenario:
    """A load, and what is wrong with the first replica."""

    title: str
    workload: Workload
    users_per_replica: int = 40
    pause_seconds: float = 2.0
    slowdown: float = 1.0
    fails: bool = False

    def replicas(self, count: int, costs: Costs) -> list[Replica]:
        """That many replicas."""
        odd = Replica("r0", costs, slowdown=self.slowdown, fails=self.fails)
        return [odd, *(Replica(f"r{number}", costs) for number in range(1, count))]


SCENARIOS: Mapping[str, Scenario] = {
    "shared_prefixes": Scenario("Growing chats over 32 system messages", Chats()),
    "unique_prompts": Scenario("Prompts with nothing in common", Unique()),
    "slow_replica": Scenario(
        "Unique prompts, one replica slower by 3x", Unique(), users_per_replica=12, slowdown=3.0
    ),
    "failing_replica": Scenario(
        "Unique prompts, one replica fails at once", Unique(), users_per_replica=12, fails=True
    ),
}


@dataclass(frozen=True)
class Figures:
    """What a strategy achieved after the warm-up."""

    tokens_per_second: float
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    ttft_p95_seconds: float
    known_share: float
    """Share of the prompts' tokens that did not have to be read again."""
    failed_share: float
    odd_share: float
    """Share of the requests that went to the first replica."""


def run(
    scenario: Scenario, strategy: str, count: int, costs: Costs, seconds: float, seed: int = 0
) -> Figures:
    """Simulate `seconds`, the first third of which is warm-up."""
    simulation = Simulation(
        policy=STRATEGIES[strategy](),
        replicas=scenario.replicas(count, costs),
        workload=scenario.workload,
        users=count * scenario.users_per_replica,
        pause_seconds=scenario.pause_seconds,
        seed=seed,
    )
    warm = seconds / 3
    return _figures([outcome for outcome in simulation.run(seconds) if outcome.at > warm], seconds - warm)


def _figures(outcomes: Sequence[Outcome], seconds: float) -> Figures:
    answered = [outcome for outcome in outcomes if not outcome.failed]
    durations = sorted(outcome.seconds for outcome in answered)
    first = sorted(outcome.to_first_token for outcome in answered)
    prompt_tokens = sum(outcome.prompt_tokens for outcome in answered)
    return Figures(
        tokens_per_second=round(sum(outcome.answer_tokens for outcome in answered) / seconds, 1),
        p50_seconds=_quantile(durations, 0.5),
        p95_seconds=_quantile(durations, 0.95),
        p99_seconds=_quantile(durations, 0.99),
        ttft_p95_seconds=_quantile(first, 0.95),
        known_share=round(sum(outcome.known_tokens for outcome in answered) / prompt_tokens, 3),
        failed_share=round(1 - len(answered) / len(outcomes), 4),
        odd_share=round(Counter(outcome.replica for outcome in outcomes)["r0"] / len(outcomes), 4),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
