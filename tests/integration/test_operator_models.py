# SPDX-License-Identifier: Apache-2.0
"""ModelDeployments on real parts: made, changed, scaled, broken, healed, deleted."""

import shutil
from typing import Any

import openai
import pytest

from stack import asking, manifests
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import RayServe
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "modeldeployments.lateen.dev"


@pytest.fixture(scope="module")
def chat(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model, Ready; the id clients use."""
    cluster.apply(manifests.model(shared_namespace, "chat", "generate", "tiny-chat"))
    found = cluster.wait_ready(KIND, shared_namespace, "chat", timeout=180)
    return str(found["status"]["modelId"])


def test_an_applied_model_answers_under_its_namespaced_id(
    chat: str, shared_namespace: str, cluster: Cluster, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Ready means that clients get answers, and the status says who serves."""
    status = cluster.status(KIND, shared_namespace, "chat")
    assert chat == f"{shared_namespace}.chat"
    assert chat in asking.listed(sdk)
    assert asking.say(sdk, chat)
    assert status["readyReplicas"] == status["replicas"] == 1
    assert list(ray.of_model(shared_namespace, "chat")) == [status["application"]]
    assert status["application"].endswith(status["revision"])


def test_a_model_shows_its_state_from_the_first_moment(cluster: Cluster, namespace: str) -> None:
    """Tools that follow kstatus never take a model that is starting for one that is done."""
    cluster.apply(manifests.model(namespace, "early", "generate", "tiny-chat"))
    found = wait_for(
        lambda: condition(cluster.get(KIND, namespace, "early")), 10, "no Ready condition", interval=0.2
    )
    assert found["status"] in ("False", "Unknown")
    assert condition(cluster.get(KIND, namespace, "early"), "Reconciling")["status"] == "True"


def test_new_weights_replace_the_old_ones_without_a_lost_request(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """The new revision starts beside the old one; requests go on all the time and end up with the new one."""
    cluster.apply(manifests.model(namespace, "roll", "generate", "tiny-chat"))
    before = cluster.wait_ready(KIND, namespace, "roll", timeout=180)["status"]
    model = f"{namespace}.roll"
    old_answer = asking.say(sdk, model, tokens=24)
    with traffic(lambda: asking.say(sdk, model), lambda: asking.stream(sdk, model)):
        cluster.patch(KIND, namespace, "roll", {"source": {"uri": "pvc://models/tiny-chat-2"}})
        after = cluster.wait_ready(KIND, namespace, "roll", timeout=180)["status"]
        assert after["revision"] != before["revision"]
        wait_for(
            lambda: list(ray.of_model(namespace, "roll")) == [after["application"]],
            120,
            "the old revision's application stays",
            interval=0.5,
        )
    assert asking.say(sdk, model, tokens=24) != old_answer
    assert "RolledOut" in cluster.events(namespace)


def test_scaling_adds_and_removes_replicas_without_a_restart(
    chat: str, cluster: Cluster, shared_namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """`kubectl scale` changes the number of replicas; the first one stays the same process."""
    status = cluster.status(KIND, shared_namespace, "chat")
    application = status["application"]
    first = ray.replicas(application)
    with traffic(lambda: asking.say(sdk, chat)):
        cluster.run("scale", KIND, "chat", "-n", shared_namespace, "--replicas=2")
        wait_for(
            lambda: cluster.status(KIND, shared_namespace, "chat").get("readyReplicas") == 2,
            120,
            "no second replica",
            interval=0.5,
        )
        assert first < ray.replicas(application)
        cluster.run("scale", KIND, "chat", "-n", shared_namespace, "--replicas=1")
        wait_for(lambda: len(ray.replicas(application)) == 1, 120, "two replicas stay", interval=0.5)
    assert cluster.status(KIND, shared_namespace, "chat")["revision"] == status["revision"]


def test_a_deleted_model_is_gone_everywhere(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """After `kubectl delete` clients get 404 and Ray holds no application of it."""
    cluster.apply(manifests.model(namespace, "brief", "generate", "tiny-chat"))
    cluster.wait_ready(KIND, namespace, "brief", timeout=180)
    cluster.delete(KIND, namespace, "brief")
    assert f"{namespace}.brief" not in asking.listed(sdk)
    with pytest.raises(openai.NotFoundError):
        asking.say(sdk, f"{namespace}.brief")
    wait_for(lambda: not ray.of_model(namespace, "brief"), 90, "Ray still has its application", interval=0.5)


def test_missing_weights_are_reported_and_heal_when_they_appear(
    cluster: Cluster, namespace: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """The reason is SourceNotFound within seconds; nothing but the weights' arrival is needed afterwards."""
    models = stack.volume("models")
    cluster.apply(manifests.model(namespace, "late", "generate", f"late-{namespace}"))
    found = cluster.wait_reason(KIND, namespace, "late", "SourceNotFound", timeout=60)
    assert f"late-{namespace}" in condition(found)["message"]
    assert condition(found, "Stalled")["status"] == "True"
    shutil.copytree(models / "tiny-chat", models / f".late-{namespace}")
    (models / f".late-{namespace}").rename(models / f"late-{namespace}")
    try:
        cluster.wait_ready(KIND, namespace, "late", timeout=180)
        assert asking.say(sdk, f"{namespace}.late")
    finally:
        shutil.rmtree(models / f"late-{namespace}")


def test_pickled_weights_are_refused(cluster: Cluster, namespace: str, stack: LocalStack) -> None:
    """Weights that could run code are never loaded; the message says what to do."""
    folder = stack.volume("models") / f"pickled-{namespace}"
    folder.mkdir()
    shutil.copy(stack.volume("models") / "tiny-chat" / "config.json", folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    try:
        cluster.apply(manifests.model(namespace, "pickled", "generate", folder.name))
        found = cluster.wait_reason(KIND, namespace, "pickled", "SourceRefused", timeout=60)
        assert "safetensors" in condition(found)["message"]
    finally:
        shutil.rmtree(folder)


def test_a_failed_update_leaves_the_old_revision_serving(
    chat: str, cluster: Cluster, shared_namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """A spec that can't be followed shows why, loses no request, and is forgotten when it is taken back."""
    before = cluster.status(KIND, shared_namespace, "chat")["revision"]
    with traffic(lambda: asking.say(sdk, chat)):
        cluster.patch(KIND, shared_namespace, "chat", {"source": {"uri": "pvc://models/nowhere"}})
        found = cluster.wait_reason(KIND, shared_namespace, "chat", "SourceNotFound", timeout=60)
        assert before in condition(found)["message"]
        assert found["status"]["revision"] == before
        cluster.patch(KIND, shared_namespace, "chat", {"source": {"uri": "pvc://models/tiny-chat"}})
        cluster.wait_ready(KIND, shared_namespace, "chat", timeout=60)
    wait_for(
        lambda: len(ray.of_model(shared_namespace, "chat")) == 1,
        120,
        "the failed revision's application stays",
        interval=0.5,
    )


def test_weights_of_another_task_are_unsupported(cluster: Cluster, namespace: str) -> None:
    """An embedder's weights can't generate text, and the status says so."""
    cluster.apply(manifests.model(namespace, "wrong", "generate", "tiny-embed"))
    cluster.wait_reason(KIND, namespace, "wrong", "ModelUnsupported", timeout=90)


UNSCHEDULABLE: dict[str, tuple[dict[str, Any], str]] = {
    "cores": ({"cpu": "512"}, "CPU: a replica asks for 512"),
    "memory": ({"memory": "999999999999Ti"}, "memory: a replica asks for"),
    "gpus": ({"gpu": "0.5"}, "GPU: a replica asks for 0.5"),
    "kind": ({"acceleratorType": "H100"}, "acceleratorType: no node has H100"),
    "labels": (
        {"nodeLabels": {"example.com/zone": "moon"}},
        "nodeLabels: no node has example.com/zone: moon",
    ),
}


def test_a_model_that_no_node_can_hold_is_unschedulable(
    chat: str, cluster: Cluster, namespace: str, sdk: openai.OpenAI
) -> None:
    """The message says what is lacking, of each resource there is, and nobody else is hurt."""
    cluster.apply(
        *(
            manifests.model(namespace, name, "generate", "tiny-chat", resources=resources)
            for name, (resources, _) in UNSCHEDULABLE.items()
        )
    )
    for name, (_, words) in UNSCHEDULABLE.items():
        found = cluster.wait_reason(KIND, namespace, name, "Unschedulable", timeout=30)
        assert words in condition(found)["message"]
        assert condition(found, "Stalled")["status"] == "True"
        assert found["status"]["lastFailure"]["reason"] == "Unschedulable"
    assert asking.say(sdk, chat)


def test_a_suspended_model_keeps_serving_what_it_served(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """`spec.suspend` freezes a model; taking it away lets the waiting change through."""
    before = cluster.status(KIND, shared_namespace, "chat")["revision"]
    changed = {"suspend": True, "engine": {"maxModelLen": 256}}
    cluster.patch(KIND, shared_namespace, "chat", changed)
    cluster.wait_condition(KIND, shared_namespace, "chat", lambda ready: ready["reason"] == "Suspended", 30)
    assert cluster.status(KIND, shared_namespace, "chat")["revision"] == before
    assert asking.say(sdk, chat)
    cluster.patch(KIND, shared_namespace, "chat", {"suspend": False})
    found = cluster.wait_ready(KIND, shared_namespace, "chat", timeout=180)
    assert found["status"]["revision"] != before
