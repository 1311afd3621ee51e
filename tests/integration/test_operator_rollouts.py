# SPDX-License-Identifier: Apache-2.0
"""New revisions that take over in steps, are given up, replace the old one in place, or are taken back; on real parts."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import openai
import psutil
import pytest

from stack import asking, lora, manifests
from stack.cluster import Cluster, condition
from stack.local import LATEEN, LocalStack
from stack.parts import Operator, RayServe
from stack.processes import named
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "modeldeployments.lateen.dev"
CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "pause": "3s"}, {"weight": 60, "pause": "3s"}],
    "abort": {"maxErrorRatio": "0.2", "minRequests": 5},
}
IMMEDIATE = {"rollout": {"strategy": "Immediate", "steps": None, "abort": None}}
SOUND = {"source": {"uri": "pvc://models/tiny-long"}}
LONG_TEXT = "zebra " * 3000
"""What the deep model needs seconds to read, and the others none."""
NEW = {"source": {"uri": "pvc://models/tiny-chat-2"}}


def start(
    cluster: Cluster, namespace: str, name: str, path: str = "tiny-chat", **spec: object
) -> dict[str, str]:
    """A tiny model, Ready; its status."""
    cluster.apply(manifests.model(namespace, name, "generate", path, **spec))
    status: dict[str, str] = cluster.wait_ready(KIND, namespace, name, timeout=180)["status"]
    return status


def only(ray: RayServe, namespace: str, name: str, application: str) -> None:
    """Wait until Ray runs that application of the model and no other."""
    wait_for(
        lambda: list(ray.of_model(namespace, name)) == [application],
        120,
        lambda: f"Ray runs {list(ray.of_model(namespace, name))}, not just {application}",
        interval=0.5,
    )


def test_a_canary_takes_over_in_steps_without_a_lost_request(
    cluster: Cluster, namespace: str, ray: RayServe, operator: Operator, sdk: openai.OpenAI
) -> None:
    """Its weights show in the status, a killed operator goes on where it was, and the old revision goes at the end."""
    before = start(cluster, namespace, "steps", rollout=CANARY)
    model = f"{namespace}.steps"
    weights: list[int] = []

    def ended() -> bool:
        found = cluster.get(KIND, namespace, "steps")
        shares = found["status"].get("traffic") or []
        weight = next((each["weight"] for each in shares if each["revision"] != before["revision"]), 0)
        if weight and (not weights or weights[-1] != weight):
            weights.append(int(weight))
        return bool(weight == 100 and condition(found)["status"] == "True")

    with traffic(lambda: asking.say(sdk, model), lambda: asking.stream(sdk, model)):
        cluster.patch(KIND, namespace, "steps", NEW)
        wait_for(lambda: ended() or bool(weights), 180, "the canary takes no requests")
        operator.wait_restarted(operator.kill())
        wait_for(ended, 180, lambda: f"the canary does not end, weights so far: {weights}")
        after = cluster.status(KIND, namespace, "steps")
        only(ray, namespace, "steps", after["application"])
    assert weights == [20, 60, 100]
    assert after["revision"] != before["revision"]
    assert {"CanaryStep", "RolledOut"} <= cluster.events(namespace)


@pytest.fixture(scope="module")
def guarded(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model whose new revisions are watched for a long time; its name."""
    abort = {"maxErrorRatio": "0.2", "maxLatencyP95": "1s", "minRequests": 3}
    watched = {"strategy": "Canary", "steps": [{"weight": 50, "pause": "2m"}], "abort": abort}
    start(cluster, shared_namespace, "guarded", "tiny-long", rollout=watched)
    return "guarded"


@pytest.fixture
def failing(stack: LocalStack, shared_namespace: str) -> Iterator[str]:
    """Uri of weights that load and then fail on every request."""
    models = stack.volume("models")
    folder = models / f"narrow-{shared_namespace}"
    lora.narrow_generator(folder, models / "tiny-chat")
    yield f"pvc://models/{folder.name}"
    shutil.rmtree(folder)


def test_a_canary_that_fails_is_given_up_and_can_be_taken_back(
    guarded: str,
    cluster: Cluster,
    shared_namespace: str,
    ray: RayServe,
    stack: LocalStack,
    sdk: openai.OpenAI,
    failing: str,
) -> None:
    """The old revision serves everything again, the status has the numbers, and `lateen rollback` mends the spec."""
    namespace, model = shared_namespace, f"{shared_namespace}.{guarded}"
    before = cluster.status(KIND, namespace, guarded)
    cluster.patch(KIND, namespace, guarded, {"source": {"uri": failing}})
    answered = 0

    def given_up() -> bool:
        nonlocal answered
        try:
            asking.say(sdk, model)
            answered += 1
        except openai.APIStatusError:
            pass
        return bool(condition(cluster.get(KIND, namespace, guarded))["reason"] == "RolloutAborted")

    wait_for(given_up, 180, "the canary is not given up")
    found = cluster.get(KIND, namespace, guarded)
    assert "requests failed" in condition(found)["message"]
    assert found["status"]["lastFailure"]["reason"] == "RolloutAborted"
    assert found["status"]["revision"] == before["revision"]
    assert answered
    only(ray, namespace, guarded, before["application"])
    with traffic(lambda: asking.say(sdk, model)):
        shown = lateen(stack, "history", f"md/{guarded}", "-n", namespace)
        assert "given up" in shown
        assert "serves" in shown
        lateen(stack, "rollback", f"md/{guarded}", "-n", namespace)
        cluster.wait_ready(KIND, namespace, guarded, timeout=60)
    spec = cluster.get(KIND, namespace, guarded)["spec"]
    assert spec["source"] == SOUND["source"]
    assert spec["rollout"]["strategy"] == "Canary"
    assert "RolledBack" in cluster.events(namespace)


def test_a_canary_that_is_slow_is_given_up(
    guarded: str, cluster: Cluster, shared_namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Its answers are right but begin late: none is lost, and the old revision serves everything again."""
    namespace, model = shared_namespace, f"{shared_namespace}.{guarded}"
    cluster.patch(KIND, namespace, guarded, SOUND)
    before = cluster.wait_ready(KIND, namespace, guarded, timeout=60)["status"]
    with traffic(*[lambda: asking.full(sdk, model, 4, LONG_TEXT)] * 2):
        cluster.patch(KIND, namespace, guarded, {"source": {"uri": "pvc://models/tiny-deep"}})
        found = cluster.wait_reason(KIND, namespace, guarded, "RolloutAborted", timeout=180)
        assert "95th percentile" in condition(found)["message"]
        assert "1s may be" in condition(found)["message"]
        assert found["status"]["lastFailure"]["reason"] == "RolloutAborted"
        assert found["status"]["revision"] == before["revision"]
        only(ray, namespace, guarded, before["application"])


def test_a_revision_that_crashes_while_it_starts_takes_no_requests(
    guarded: str, cluster: Cluster, shared_namespace: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """Replicas that are killed as those are that want more memory than there is: the old revision serves on, the
    status says so, and the new one takes over by itself once it can start.
    """
    namespace, model = shared_namespace, f"{shared_namespace}.{guarded}"
    cluster.patch(KIND, namespace, guarded, SOUND | IMMEDIATE)
    before = cluster.wait_ready(KIND, namespace, guarded, timeout=60)["status"]
    killed = 0

    def failed() -> dict[str, Any] | None:
        # What is judged is what was read in this moment: the operator tries again, and then says so.
        nonlocal killed
        for process in named(stack, f"ray::ServeReplica:{namespace}_{guarded}_"):
            if process.pid not in sound:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed += 1
        found: dict[str, Any] = cluster.get(KIND, namespace, guarded)
        return found if condition(found)["reason"] == "ReplicaFailed" else None

    sound = {process.pid for process in named(stack, f"ray::ServeReplica:{before['application']}")}
    assert len(sound) == 1
    with traffic(lambda: asking.say(sdk, model), lambda: asking.stream(sdk, model)):
        cluster.patch(KIND, namespace, guarded, NEW)
        found = wait_for(failed, 120, "nothing is said of a revision that crashes")
        assert found is not None
        assert f"Revision {before['revision']} keeps serving" in condition(found)["message"]
        assert condition(found, "Stalled")["status"] == "True"
        status = found["status"]
        assert (status["revision"], status["readyReplicas"]) == (before["revision"], 1)
        assert [share["weight"] for share in status["traffic"]] == [100]
        assert status["lastFailure"]["reason"] == "ReplicaFailed"
        assert status["failedReplicas"] > 0
        assert killed
        after = cluster.wait_ready(KIND, namespace, guarded, timeout=120)["status"]
    assert after["revision"] != before["revision"]


def lateen(stack: LocalStack, *words: str) -> str:
    """What `lateen WORDS --state-dir DIR` prints; it must succeed."""
    command = [str(LATEEN), *words, "--state-dir", str(stack.state.root)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_recreate_leaves_room_for_one(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """The old revision has left Ray when the new one starts; requests wait for it, and none is lost."""
    patient = {"queueTimeout": "2m", "requestTimeout": "3m"}
    before = start(cluster, namespace, "one", rollout={"strategy": "Recreate"}, limits=patient)

    def changed() -> bool:
        assert len(ray.of_model(namespace, "one")) <= 1
        return before["application"] not in ray.of_model(namespace, "one")

    with traffic(lambda: asking.say(sdk, f"{namespace}.one")) as going:
        cluster.patch(KIND, namespace, "one", NEW)
        wait_for(changed, 120, "the old revision stays", interval=0.3)
        after = cluster.wait_ready(KIND, namespace, "one", timeout=180)["status"]
        going.wait_for_more(2)
    assert after["application"] != before["application"]


def test_a_rollback_without_a_lost_request(
    cluster: Cluster, namespace: str, ray: RayServe, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """Back to the revision before, or to a named one; what else the spec says stays."""
    before = start(cluster, namespace, "undo")
    model = f"{namespace}.undo"
    cluster.patch(KIND, namespace, "undo", NEW | {"limits": {"maxQueuedRequests": 77}})
    new = cluster.wait_ready(KIND, namespace, "undo", timeout=180)["status"]
    with traffic(lambda: asking.say(sdk, model), lambda: asking.stream(sdk, model)):
        lateen(stack, "rollback", "md/undo", "-n", namespace)
        back = cluster.wait_ready(KIND, namespace, "undo", timeout=180)
        assert back["status"]["revision"] == before["revision"]
        assert back["spec"]["limits"]["maxQueuedRequests"] == 77
        lateen(stack, "rollback", "md/undo", "-n", namespace, "--to", new["revision"])
        again = cluster.wait_ready(KIND, namespace, "undo", timeout=180)["status"]
        assert again["revision"] == new["revision"]
        only(ray, namespace, "undo", new["application"])
    numbers = [
        line.split()[0] for line in lateen(stack, "history", "md/undo", "-n", namespace).splitlines()[1:]
    ]
    assert numbers == sorted(numbers, key=int, reverse=True)
