# SPDX-License-Identifier: Apache-2.0
"""Replicas by hand, by the load, and by none at all; adapters and Secrets that come and go; on real parts."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from stack import asking, lora, manifests
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import RayServe
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "modeldeployments.lateen.dev"
QUEUE = 4
SLEEPY = {"minReplicas": 0, "maxReplicas": 1, "scaleToZeroDelay": "2s", "downscaleDelay": "1s"}


def status_has(
    cluster: Cluster, namespace: str, name: str, timeout: float = 120, **wanted: Any
) -> dict[str, Any]:
    """Wait until the status has these fields; the status then."""
    last: dict[str, Any] = {}

    def has() -> bool:
        last.clear()
        last.update(cluster.status(KIND, namespace, name))
        return all(last.get(field) == value for field, value in wanted.items())

    wait_for(has, timeout, lambda: f"{name} has not {wanted}: {json.dumps(last, indent=1)}", interval=0.3)
    return last


def test_the_scale_subresource_scales_as_autoscalers_use_it(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """`kubectl scale` and what a HorizontalPodAutoscaler writes change replicas in place, without a lost request."""
    cluster.apply(manifests.model(namespace, "hand", "generate", "tiny-chat"))
    before = cluster.wait_ready(KIND, namespace, "hand", timeout=180)["status"]
    first = ray.replicas(before["application"])
    with traffic(lambda: asking.say(sdk, f"{namespace}.hand")):
        cluster.run("scale", KIND, "hand", "-n", namespace, "--replicas=2")
        status_has(cluster, namespace, "hand", readyReplicas=2, replicas=2)
        scale = json.loads(
            cluster.run("get", KIND, "hand", "-n", namespace, "--subresource=scale", "-o", "json")
        )
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
        assert scale["status"]["selector"]
        change = json.dumps({"spec": {"replicas": 1}})
        cluster.run(
            "patch", KIND, "hand", "-n", namespace, "--subresource=scale", "--type=merge", "-p", change
        )
        after = status_has(cluster, namespace, "hand", readyReplicas=1, replicas=1)
    assert ray.replicas(before["application"]) <= first | ray.replicas(after["application"])
    assert after["application"] == before["application"]
    assert [(event["from"], event["to"]) for event in after["scalingHistory"]] == [(2, 1), (1, 2)]


def test_a_model_that_follows_the_load_is_not_scaled_by_hand(cluster: Cluster, namespace: str) -> None:
    """The API server says that there is one or the other."""
    cluster.apply(manifests.model(namespace, "auto", "generate", "tiny-chat", autoscaling={"maxReplicas": 2}))
    refused = cluster.kubectl("scale", KIND, "auto", "-n", namespace, "--replicas=2")
    assert refused.returncode != 0
    assert "exactly one of replicas" in refused.stderr


@pytest.fixture(scope="module")
def sleepy(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model that stops when it is idle, with a short queue; its name."""
    limits = {"maxQueuedRequests": QUEUE, "queueTimeout": "2m", "requestTimeout": "3m"}
    resource = manifests.model(
        shared_namespace, "sleepy", "generate", "tiny-chat", autoscaling=SLEEPY, limits=limits
    )
    cluster.apply(resource)
    cluster.wait_ready(KIND, shared_namespace, "sleepy", timeout=180)
    return "sleepy"


def test_an_idle_model_stops_and_a_request_wakes_it(
    sleepy: str, cluster: Cluster, shared_namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """At zero it is Ready and listed; the first request waits for the replica and is answered."""
    namespace = shared_namespace
    status = status_has(cluster, namespace, "sleepy", replicas=0, readyReplicas=0)
    application = status["application"]
    assert condition(cluster.get(KIND, namespace, "sleepy"))["reason"] == "ScaledToZero"
    assert condition(cluster.get(KIND, namespace, "sleepy"))["status"] == "True"
    wait_for(lambda: not ray.replicas(application), 60, "a replica stays")
    assert f"{namespace}.sleepy" in asking.listed(sdk)
    assert asking.say(sdk, f"{namespace}.sleepy")
    history = status_has(cluster, namespace, "sleepy", replicas=0)["scalingHistory"]
    changes = [(event["from"], event["to"]) for event in history]
    assert changes[:3] == [(1, 0), (0, 1), (1, 0)]
    assert "Scaled" in cluster.events(namespace)


async def test_requests_wait_for_a_sleeping_model_in_a_bounded_queue(
    sleepy: str, cluster: Cluster, shared_namespace: str, client: openai.AsyncOpenAI
) -> None:
    """Those beyond its bound, or its deadline, get 503 and the time a replica takes to load; all others are answered."""
    namespace, model = shared_namespace, f"{shared_namespace}.{sleepy}"
    ask: dict[str, Any] = {
        "model": model, "messages": [{"role": "user", "content": "tea"}], "max_completion_tokens": 2
    }  # fmt: skip
    status = status_has(cluster, namespace, sleepy, replicas=0, readyReplicas=0)
    load = status["facts"]["loadSeconds"]

    def tells_the_load_time(error: openai.APIStatusError) -> bool:
        # A replica loads longer where much else is going on, so that no two times are the same.
        return bool(load / 4 <= int(error.response.headers["retry-after"]) <= load * 4 + 1)

    outcomes = await asyncio.gather(
        *(client.chat.completions.create(**ask) for _ in range(3 * QUEUE)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 2 * QUEUE
    for error in refused:
        assert isinstance(error, openai.InternalServerError), error
        assert (error.status_code, error.code) == (503, "overloaded")
        assert tells_the_load_time(error)
    cluster.patch(KIND, namespace, sleepy, {"limits": {"queueTimeout": "1s"}})
    cluster.wait_condition(KIND, namespace, sleepy, lambda ready: ready["reason"] == "ScaledToZero", 60)
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(**ask)
    assert (caught.value.status_code, caught.value.code) == (503, "queue_timeout")
    assert tells_the_load_time(caught.value)


def test_replicas_follow_the_load(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """More requests than one replica should have start others; when they end, those stop; none is lost."""
    scaling = {"maxReplicas": 2, "targetOngoingRequests": 1, "downscaleDelay": "2s"}
    cluster.apply(manifests.model(namespace, "busy", "generate", "tiny-chat", autoscaling=scaling))
    application = cluster.wait_ready(KIND, namespace, "busy", timeout=180)["status"]["application"]
    first = ray.replicas(application)
    model = f"{namespace}.busy"
    calls = [lambda: asking.stream(sdk, model, tokens=200)] * 4
    with traffic(*calls):
        status_has(cluster, namespace, "busy", replicas=2, readyReplicas=2)
        assert first < ray.replicas(application)
    status_has(cluster, namespace, "busy", replicas=1, readyReplicas=1)
    assert asking.say(sdk, model)


def test_replicas_that_leave_finish_what_they_began(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Three replicas become one, twice, while short and long requests and streams go on: none fails."""
    scaling = {"maxReplicas": 3, "targetOngoingRequests": 4, "downscaleDelay": "2s"}
    cluster.apply(manifests.model(namespace, "tide", "generate", "tiny-chat", autoscaling=scaling))
    application = cluster.wait_ready(KIND, namespace, "tide", timeout=180)["status"]["application"]
    model = f"{namespace}.tide"
    steady = [
        lambda: asking.say(sdk, model),
        lambda: asking.stream(sdk, model),
        lambda: asking.stream(sdk, model, tokens=400),
    ]
    with traffic(*steady) as running:
        for _ in range(2):
            with traffic(*[lambda: asking.stream(sdk, model, tokens=400)] * 12):
                status_has(cluster, namespace, "tide", readyReplicas=3)
            status_has(cluster, namespace, "tide", replicas=1, readyReplicas=1)
            wait_for(
                lambda: len(ray.replicas(application, ("RUNNING", "STOPPING"))) == 1,
                120,
                "a replica does not go",
            )
            running.wait_for_more()


def largest_memory(ray: RayServe) -> int:
    """Bytes that the largest Ray node has to give away."""
    reply = ray.http.get("/api/v0/nodes", params={"detail": "true"}).raise_for_status().json()
    return int(max(row["resources_total"]["memory"] for row in reply["data"]["result"]["result"]))


def test_replicas_that_find_no_room_are_told(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Where one replica fits and two don't: a model that grows stays Ready and says so, one that is woken is not Ready and
    its request gets 503; what makes room heals both.
    """
    most = {"resources": {"cpu": "100m", "memory": str(largest_memory(ray) * 6 // 10)}}
    limits = {"queueTimeout": "30s", "requestTimeout": "2m"}
    asleep = manifests.model(
        namespace, "asleep", "generate", "tiny-chat", autoscaling=SLEEPY, limits=limits, **most
    )
    cluster.apply(asleep)
    application = cluster.wait_ready(KIND, namespace, "asleep", timeout=180)["status"]["application"]
    status_has(cluster, namespace, "asleep", replicas=0, readyReplicas=0)
    wait_for(lambda: not ray.replicas(application, ("RUNNING", "STOPPING")), 60, "a replica stays")
    growing = {"maxReplicas": 2, "targetOngoingRequests": 1, "downscaleDelay": "1s"}
    cluster.apply(manifests.model(namespace, "grows", "generate", "tiny-chat", autoscaling=growing, **most))
    cluster.wait_ready(KIND, namespace, "grows", timeout=180)

    def wake() -> openai.InternalServerError:
        with pytest.raises(openai.InternalServerError) as refused:
            asking.say(sdk, f"{namespace}.asleep")
        return refused.value

    with (
        traffic(*[lambda: asking.stream(sdk, f"{namespace}.grows", tokens=400)] * 4),
        ThreadPoolExecutor() as pool,
    ):
        woken = pool.submit(wake)
        found = cluster.wait_reason(KIND, namespace, "asleep", "Unschedulable", timeout=70)
        assert "memory" in condition(found)["message"]
        wait_for(lambda: condition(cluster.get(KIND, namespace, "grows"), "Scaled"), 60, "it says nothing")
        grown = cluster.get(KIND, namespace, "grows")
        assert condition(grown)["status"] == "True"
        scaled = condition(grown, "Scaled")
        assert (scaled["status"], scaled["reason"]) == ("False", "Unschedulable")
        assert scaled["message"].startswith("1 of 2 replicas serve; no node has room now: ")
        refused = woken.result(timeout=120)
    assert (refused.status_code, refused.code) == (503, "queue_timeout")
    assert int(refused.response.headers["retry-after"]) >= 1
    wait_for(
        lambda: not condition(cluster.get(KIND, namespace, "grows"), "Scaled"), 60, "it goes on saying so"
    )
    cluster.delete(KIND, namespace, "grows")
    assert asking.say(sdk, f"{namespace}.asleep")
    cluster.wait_ready(KIND, namespace, "asleep", timeout=60)


@pytest.fixture
def adapters(stack: LocalStack, namespace: str) -> Iterator[str]:
    """Uri of a folder with an adapter."""
    folder = stack.volume("models") / f"lora-{namespace}"
    lora.adapter(folder, seed=7)
    yield f"pvc://models/{folder.name}"
    shutil.rmtree(folder)


def test_adapters_come_and_go_without_a_restart(
    cluster: Cluster, namespace: str, ray: RayServe, sdk: openai.OpenAI, adapters: str
) -> None:
    """One more name in /v1/models that answers otherwise; the replica stays the same process."""
    cluster.apply(manifests.model(namespace, "base", "generate", "tiny-chat"))
    application = cluster.wait_ready(KIND, namespace, "base", timeout=180)["status"]["application"]
    first = ray.replicas(application)
    model = f"{namespace}.base"
    with traffic(lambda: asking.say(sdk, model)):
        both = [{"name": "lora", "uri": adapters}, {"name": "lost", "uri": "pvc://models/nowhere"}]
        cluster.patch(KIND, namespace, "base", {"adapters": both})
        found = cluster.wait_reason(KIND, namespace, "base", "AdapterFailed")
        assert "lost: " in condition(found)["message"]
        told = {each["name"]: each.get("reason") for each in found["status"]["adapters"]}
        assert told == {"lora": None, "lost": "SourceNotFound"}
        wait_for(lambda: f"{model}:lora" in asking.listed(sdk), 30, "the adapter is not listed")
        assert f"{model}:lost" not in asking.listed(sdk)
        with pytest.raises(openai.InternalServerError) as refused:
            asking.say(sdk, f"{model}:lost")
        assert (refused.value.status_code, refused.value.code) == (503, "adapter_failed")
        assert refused.value.response.headers["retry-after"] == "60"
        cluster.patch(KIND, namespace, "base", {"adapters": both[:1]})
        status = cluster.wait_ready(KIND, namespace, "base", timeout=60)["status"]
        assert status["url"] == str(sdk.base_url).rstrip("/")
        assert [(each["modelId"], each["ready"]) for each in status["adapters"]] == [(f"{model}:lora", True)]
        assert f"{model}:lora" in asking.listed(sdk)
        assert asking.say(sdk, f"{model}:lora", tokens=24) != asking.say(sdk, model, tokens=24)
        cluster.patch(KIND, namespace, "base", {"adapters": []})
        wait_for(lambda: f"{model}:lora" not in asking.listed(sdk), 60, "the adapter stays listed")
    assert ray.replicas(application) == first


def test_a_missing_secret_is_named_and_its_arrival_heals(
    cluster: Cluster, namespace: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """Ray's processes find it as a file that only their user can read; it goes when nobody refers to it."""
    source = {"uri": "pvc://models/tiny-chat", "secretRef": {"name": "hub"}}
    cluster.apply(manifests.model(namespace, "secret", "generate", "tiny-chat", source=source))
    found = cluster.wait_reason(KIND, namespace, "secret", "ReferenceNotFound", timeout=60)
    assert f"{namespace}/hub" in condition(found)["message"]
    cluster.run("create", "secret", "generic", "hub", "-n", namespace, "--from-literal=token=hf_example")
    cluster.wait_ready(KIND, namespace, "secret", timeout=180)
    file = Path(stack.state.secrets) / namespace / "hub" / "token"
    assert file.read_text() == "hf_example"
    assert file.stat().st_mode & 0o077 == 0
    assert asking.say(sdk, f"{namespace}.secret")
    cluster.delete(KIND, namespace, "secret")
    wait_for(lambda: not file.exists(), 60, "the secret stays on disk")
