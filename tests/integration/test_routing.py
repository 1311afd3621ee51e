# SPDX-License-Identifier: Apache-2.0
"""Routing strategies on real parts: where requests go, and that a change of strategy costs nothing."""

import openai
import pytest

from stack import asking, manifests
from stack.cluster import Cluster
from stack.parts import RayServe
from stack.traffic import traffic

KIND = "modeldeployments.lateen.dev"
STRATEGIES = ["LeastLoaded", "PrefixAware", "ResponseTime", "RoundRobin"]


@pytest.fixture(scope="module")
def pair(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model with two replicas, Ready; the id clients use."""
    cluster.apply(manifests.model(shared_namespace, "pair", "generate", "tiny-chat", replicas=2))
    found = cluster.wait_ready(KIND, shared_namespace, "pair", timeout=180)
    return str(found["status"]["modelId"])


def test_a_change_of_strategy_restarts_nothing_and_loses_nothing(
    pair: str, shared_namespace: str, cluster: Cluster, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Through all strategies, under traffic, the same replicas go on and every request is answered."""
    status = cluster.status(KIND, shared_namespace, "pair")
    application, before = status["application"], ray.replicas(status["application"])
    assert len(before) == 2
    with traffic(lambda: asking.say(sdk, pair), lambda: asking.stream(sdk, pair)) as running:
        for strategy in [*STRATEGIES, STRATEGIES[0]]:
            cluster.patch(KIND, shared_namespace, "pair", {"routing": {"strategy": strategy}})
            cluster.wait_ready(KIND, shared_namespace, "pair", timeout=60)
            running.wait_for_more()
    assert ray.replicas(application) == before
    after = cluster.status(KIND, shared_namespace, "pair")
    assert (after["application"], after["revision"]) == (status["application"], status["revision"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers(
    strategy: str, pair: str, shared_namespace: str, cluster: Cluster, sdk: openai.OpenAI
) -> None:
    """Conversations that are alike and such that are not get their answers, the same ones under every strategy."""
    cluster.patch(KIND, shared_namespace, "pair", {"routing": {"strategy": strategy}})
    cluster.wait_ready(KIND, shared_namespace, "pair", timeout=60)
    answers = {asking.say(sdk, pair, "the same beginning") for _ in range(4)}
    assert len(answers) == 1
    for number in range(4):
        asking.stream(sdk, pair, f"beginning number {number}", tokens=8)
