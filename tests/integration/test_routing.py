# SPDX-License-Identifier: Apache-2.0
"""Routing strategies on real parts: where requests go, and that a change of strategy costs nothing."""

from itertools import pairwise

import openai
import psutil
import pytest

from stack import asking, manifests
from stack.cluster import Cluster
from stack.parts import RayServe
from stack.traffic import traffic

KIND = "modeldeployments.lateen.dev"
TOKENS = 80
TURNS = 5
CONVERSATIONS = 16
ROUNDS = 6
STRATEGIES = ["LeastLoaded", "PrefixAware", "ResponseTime", "RoundRobin"]


@pytest.fixture(scope="module")
def pair(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model with two replicas, Ready; the id clients use."""
    cluster.apply(manifests.model(shared_namespace, "pair", "generate", "tiny-chat", replicas=2))
    found = cluster.wait_ready(KIND, shared_namespace, "pair", timeout=180)
    return str(found["status"]["modelId"])


def follow(cluster: Cluster, namespace: str, strategy: str) -> None:
    """Let the pair be routed by a strategy."""
    cluster.patch(KIND, namespace, "pair", {"routing": {"strategy": strategy}})
    cluster.wait_ready(KIND, namespace, "pair", timeout=60)


def work(pid: int) -> float:
    """Seconds that a process has computed."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def answering(replicas: list[int], sdk: openai.OpenAI, model: str, *talk: str) -> int:
    """The replica that answers in a conversation: the process that computes meanwhile."""
    before = {pid: work(pid) for pid in replicas}
    asking.full(sdk, model, TOKENS, *talk)
    (other, least), (busy, most) = sorted(
        ((pid, work(pid) - before[pid]) for pid in replicas), key=lambda entry: entry[1]
    )
    assert most > 2 * least + 0.02, f"{busy} computed for {most:.2f} s and {other} for {least:.2f} s"
    return busy


def test_requests_go_where_the_strategy_says(
    pair: str, shared_namespace: str, cluster: Cluster, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """PrefixAware keeps a conversation on one replica and spreads conversations over both; RoundRobin takes turns."""
    replicas = ray.pids(cluster.status(KIND, shared_namespace, "pair")["application"])
    assert len(replicas) == 2
    follow(cluster, shared_namespace, "PrefixAware")
    openings = [f"{number} is how this begins" for number in range(CONVERSATIONS)]
    homes = [answering(replicas, sdk, pair, opening) for opening in openings]
    assert set(homes) == set(replicas)
    for turn in range(1, TURNS):
        more = ["a heron", "what is tea"] * turn
        assert answering(replicas, sdk, pair, openings[0], *more) == homes[0]
    follow(cluster, shared_namespace, "RoundRobin")
    rounds = [answering(replicas, sdk, pair, openings[0]) for _ in range(ROUNDS)]
    assert all(one != following for one, following in pairwise(rounds)), rounds


def test_a_change_of_strategy_restarts_nothing_and_loses_nothing(
    pair: str, shared_namespace: str, cluster: Cluster, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Through all strategies, under traffic, the same replicas go on and every request is answered."""
    status = cluster.status(KIND, shared_namespace, "pair")
    application, before = status["application"], ray.replicas(status["application"])
    assert len(before) == 2
    with traffic(lambda: asking.say(sdk, pair), lambda: asking.stream(sdk, pair)) as running:
        for strategy in [*STRATEGIES, STRATEGIES[0]]:
            follow(cluster, shared_namespace, strategy)
            running.wait_for_more()
    assert ray.replicas(application) == before
    after = cluster.status(KIND, shared_namespace, "pair")
    assert (after["application"], after["revision"]) == (status["application"], status["revision"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers(
    strategy: str, pair: str, shared_namespace: str, cluster: Cluster, sdk: openai.OpenAI
) -> None:
    """Conversations that are alike and such that are not get their answers, the same ones under every strategy."""
    follow(cluster, shared_namespace, strategy)
    answers = {asking.say(sdk, pair, "the same beginning") for _ in range(4)}
    assert len(answers) == 1
    for number in range(4):
        asking.stream(sdk, pair, f"beginning number {number}", tokens=8)
