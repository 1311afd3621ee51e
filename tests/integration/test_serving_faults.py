# SPDX-License-Identifier: Apache-2.0
"""What clients see when parts of the data plane die, stall or have too much to do."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import psutil
import pytest

from stack import asking, manifests, sources, tiny
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import RayServe, samples
from stack.processes import named, stopped
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "modeldeployments.lateen.dev"
TOKENS = 400
PATIENT = {"requestTimeout": "3m", "queueTimeout": "2m"}
NARROW = {"maxOngoingRequests": 1, "maxQueuedRequests": 1, "queueTimeout": "1m", "requestTimeout": "2m"}
ENDLESS = 8000
"""Tokens that take the tiny model far longer than `SHORT`."""
SHORT = "2s"


@pytest.fixture(scope="module")
def chat(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model whose requests wait long for a replica; its name."""
    return ready(cluster, shared_namespace, "chat", PATIENT)


@pytest.fixture(scope="module")
def narrow(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model of long answers that works on one request at a time and lets another one wait; its name."""
    return ready(cluster, shared_namespace, "narrow", NARROW, "tiny-long")


def ready(
    cluster: Cluster, namespace: str, name: str, limits: dict[str, Any], path: str = "tiny-chat"
) -> str:
    """Apply a model of one replica and wait until it serves; its name."""
    cluster.apply(manifests.model(namespace, name, "generate", path, replicas=1, limits=limits))
    cluster.wait_ready(KIND, namespace, name, timeout=180)
    return name


def long_answer(model: str, **more: Any) -> dict[str, Any]:
    """Arguments of a completion that is sure to have `TOKENS` tokens."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": "what is a zebra"}],
        "max_completion_tokens": TOKENS,
        "temperature": 0,
        "logit_bias": {str(tiny.END): -100},
        **more,
    }


def replica_pid(ray: RayServe, namespace: str, name: str) -> int:
    """The process of the only running replica of a model."""
    (application,) = ray.of_model(namespace, name)
    return ray.pid(application)


def texts(stream: Iterable[Any]) -> Iterator[str]:
    """The pieces of a streamed answer."""
    for chunk in stream:
        yield from (choice.delta.content or "" for choice in chunk.choices)


async def first_piece(stream: AsyncIterator[Any]) -> None:
    """Read a stream until it has text."""
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            return
    raise AssertionError("the stream ended without any text")


async def test_a_killed_replica_loses_no_request_that_has_not_streamed(
    chat: str, shared_namespace: str, ray: RayServe, client: openai.AsyncOpenAI
) -> None:
    """Eight requests in the killed replica are answered by its successor; a stream ends with an error event."""
    model = f"{shared_namespace}.{chat}"
    stream = await client.chat.completions.create(**long_answer(model, stream=True))
    await first_piece(stream)
    asked = [asyncio.create_task(client.chat.completions.create(**long_answer(model))) for _ in range(8)]
    # A second stream that has begun shows that the replica has the requests sent before it.
    probe = await client.chat.completions.create(**long_answer(model, stream=True))
    await first_piece(probe)
    pid = await asyncio.to_thread(replica_pid, ray, shared_namespace, chat)
    with stopped(pid):
        assert not any(task.done() for task in asked), "the requests were over before the replica was killed"
        os.kill(pid, signal.SIGKILL)
    await probe.close()
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert not isinstance(caught.value, openai.APIConnectionError), (
        "the stream was cut without an error event"
    )
    answers = await asyncio.gather(*asked)
    assert {answer.choices[0].finish_reason for answer in answers} == {"length"}
    # Not their texts: bfloat16 rounds differently in batches of different sizes.
    assert {answer.usage.completion_tokens for answer in answers if answer.usage} == {TOKENS}


async def ongoing(http: httpx.AsyncClient) -> int:
    """Requests that the gateway works on, this one not counted."""
    text = (await http.get(httpx.URL(str(http.base_url)).join("/metrics"))).text
    return sum(
        int(value) - 1 for name, _, value in samples(text) if name == "lateen_gateway_ongoing_requests"
    )


async def test_a_killed_replica_ends_no_stream_silently(
    cluster: Cluster, chat: str, shared_namespace: str, ray: RayServe, client: openai.AsyncOpenAI
) -> None:
    """Streams that have sent nothing are answered by the successor, whole; those under way end with an error event and
    `[DONE]`; none hangs.
    """
    await asyncio.to_thread(cluster.wait_ready, KIND, shared_namespace, chat, timeout=60)
    request = long_answer(f"{shared_namespace}.{chat}")
    async with asking.plain(client) as http, asyncio.timeout(240):
        begun, silent = [asyncio.Event() for _ in range(4)], [asyncio.Event() for _ in range(6)]
        under_way = [asyncio.create_task(asking.events(http, request, each)) for each in begun]
        await asyncio.gather(*(each.wait() for each in begun))
        pid = await asyncio.to_thread(replica_pid, ray, shared_namespace, chat)
        with stopped(pid):
            late = [asyncio.create_task(asking.events(http, request, each)) for each in silent]
            while await ongoing(http) < len(under_way) + len(late):
                assert not any(task.done() for task in under_way), "an answer was over too early"
            os.kill(pid, signal.SIGKILL)
        broken, whole = await asyncio.gather(*under_way), await asyncio.gather(*late)
    for events in broken:
        assert json.loads(events[-2])["error"]["code"] == "model_unavailable", events[-2]
        assert events[-1] == "[DONE]"
    for events in whole:
        assert events[-1] == "[DONE]"
        assert not any("error" in json.loads(event) for event in events[:-1])
        assert {json.loads(event)["choices"][0]["finish_reason"] for event in events[:-1]} == {None, "length"}


def test_a_killed_replica_is_replaced_under_load(
    chat: str, shared_namespace: str, cluster: Cluster, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Requests that go on while the only replica dies and starts again are all answered, and Ready falls meanwhile."""
    cluster.wait_ready(KIND, shared_namespace, chat, timeout=60)
    model = f"{shared_namespace}.{chat}"
    with traffic(lambda: asking.say(sdk, model), lambda: asking.say(sdk, model)):
        pid = replica_pid(ray, shared_namespace, chat)
        os.kill(pid, signal.SIGKILL)
        fallen = cluster.wait_reason(KIND, shared_namespace, chat, "ReplicaFailed", timeout=60)
        assert fallen["status"]["readyReplicas"] == 0
        assert fallen["status"]["lastFailure"]["reason"] == "ReplicaFailed"

        def replaced() -> bool:
            with suppress(AssertionError):
                return replica_pid(ray, shared_namespace, chat) != pid
            return False

        wait_for(replaced, 120, "no other replica was started", interval=0.5)
        risen = cluster.wait_ready(KIND, shared_namespace, chat, timeout=60)
    assert risen["status"]["readyReplicas"] == 1
    assert condition(risen)["lastTransitionTime"] >= condition(fallen)["lastTransitionTime"]
    assert risen["status"]["revision"] == fallen["status"]["revision"]


def test_a_killed_proxy_comes_back(
    chat: str, shared_namespace: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """Without HAProxy nothing is reachable; it is restarted by itself and everything answers as before."""
    model = f"{shared_namespace}.{chat}"
    proxies = named(stack, "haproxy")
    assert proxies
    for proxy in proxies:
        proxy.kill()

    def answered() -> str:
        try:
            return asking.say(sdk, model)
        except openai.APIError as error:
            raise AssertionError(str(error)) from error

    wait_for(answered, 90, "the proxy does not come back", interval=0.5)


def test_a_killed_serve_controller_loses_nothing(
    chat: str, shared_namespace: str, stack: LocalStack, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Requests go on while Ray Serve's controller dies and recovers, and the replicas stay the same processes."""
    model = f"{shared_namespace}.{chat}"
    replica = replica_pid(ray, shared_namespace, chat)
    (controller,) = named(stack, "ray::ServeController")
    with traffic(lambda: asking.say(sdk, model), lambda: asking.stream(sdk, model)):
        controller.kill()
        wait_for(
            lambda: named(stack, "ray::ServeController") not in ([], [controller]), 90, "no new controller"
        )

        def recovered() -> bool:
            with suppress(AssertionError, ValueError):
                return replica_pid(ray, shared_namespace, chat) == replica
            return False

        wait_for(recovered, 90, "the replica was not recovered", interval=0.5)


async def test_a_full_queue_is_told_at_once(
    narrow: str, shared_namespace: str, client: openai.AsyncOpenAI
) -> None:
    """Requests beyond the queue's bound are 503 with Retry-After; all others are answered."""
    model = f"{shared_namespace}.{narrow}"
    outcomes = await asyncio.gather(
        *(client.chat.completions.create(**long_answer(model)) for _ in range(24)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert 0 < len(refused) < len(outcomes)
    for error in refused:
        assert isinstance(error, openai.InternalServerError), error
        assert (error.status_code, error.code) == (503, "overloaded")
        assert int(error.response.headers["retry-after"]) >= 1
        assert error.response.headers["x-should-retry"] == "true"


async def test_waiting_ends_with_the_queue_timeout(
    cluster: Cluster, namespace: str, ray: RayServe, client: openai.AsyncOpenAI
) -> None:
    """A request that no replica begins in time is 503 with Retry-After; the next one is answered."""
    await asyncio.to_thread(ready, cluster, namespace, "short", {"queueTimeout": "2s"})
    request = long_answer(f"{namespace}.short", max_completion_tokens=8)
    pid = await asyncio.to_thread(replica_pid, ray, namespace, "short")
    with stopped(pid):
        for streamed in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**request, stream=streamed)
            assert (caught.value.status_code, caught.value.code) == (503, "queue_timeout")
            assert int(caught.value.response.headers["retry-after"]) >= 1
    assert (await client.chat.completions.create(**request)).choices[0].finish_reason == "length"


def test_a_million_characters_hurt_nobody(chat: str, shared_namespace: str, sdk: openai.OpenAI) -> None:
    """A prompt far beyond the context is refused by name while others are answered."""
    model = f"{shared_namespace}.{chat}"
    with traffic(lambda: asking.say(sdk, model)):
        for _ in range(3):
            with pytest.raises(openai.BadRequestError) as caught:
                asking.say(sdk, model, text="zebra " * 166_667)
            assert caught.value.code == "context_length_exceeded"


async def test_a_client_that_leaves_frees_the_replica(
    narrow: str, shared_namespace: str, client: openai.AsyncOpenAI
) -> None:
    """After a disconnect the next request is served at once instead of after the abandoned answer."""
    request = long_answer(f"{shared_namespace}.{narrow}")
    started = time.monotonic()
    await client.chat.completions.create(**request)
    whole = time.monotonic() - started
    waits = []
    for _ in range(3):
        stream = await client.chat.completions.create(**request, stream=True)
        await first_piece(stream)
        await stream.close()
        started = time.monotonic()
        await client.chat.completions.create(**(request | {"max_completion_tokens": 1}))
        waits.append(time.monotonic() - started)
    assert min(waits) < whole / 2, f"waited {min(waits):.2f} s of an answer's {whole:.2f} s"


def test_a_request_that_takes_too_long_is_ended(
    narrow: str, shared_namespace: str, cluster: Cluster, ray: RayServe, sdk: openai.OpenAI
) -> None:
    """Beyond its request timeout it is 504, or an error event in a stream, and the engine works on it no longer."""
    model = f"{shared_namespace}.{narrow}"
    endless = long_answer(model, max_completion_tokens=ENDLESS)
    engine = psutil.Process(replica_pid(ray, shared_namespace, narrow))

    def ended() -> None:
        """The engine rests, and has a place for the next request, long before the answer would have been over."""
        wait_for(lambda: engine.cpu_percent(interval=0.5) < 50, 4, "the engine works on an abandoned answer")
        answer = sdk.chat.completions.create(**(endless | {"max_completion_tokens": 1}))
        assert answer.choices[0].finish_reason == "length"

    cluster.patch(KIND, shared_namespace, narrow, {"limits": {"requestTimeout": SHORT}})
    try:
        cluster.wait_ready(KIND, shared_namespace, narrow, timeout=60)
        with pytest.raises(openai.InternalServerError) as refused:
            sdk.chat.completions.create(**endless)
        assert (refused.value.status_code, refused.value.code) == (504, "timeout")
        assert refused.value.response.headers["x-should-retry"] == "false"
        ended()
        pieces: list[str] = []
        with pytest.raises(openai.APIError) as broken:
            pieces.extend(texts(sdk.chat.completions.create(**endless, stream=True)))
        assert broken.value.code == "timeout"
        assert "".join(pieces)
        ended()
    finally:
        cluster.patch(KIND, shared_namespace, narrow, {"limits": NARROW})


async def test_without_weaviate_chat_goes_on(
    chat: str,
    embedder: str,
    shared_namespace: str,
    stack: LocalStack,
    cluster: Cluster,
    client: openai.AsyncOpenAI,
) -> None:
    """While Weaviate does not answer, retrieval fails in words and chat works; then retrieval is back by itself."""
    source = {"docs": manifests.inline({"a.md": "The zebra is purple."})}
    cluster.apply(manifests.index(shared_namespace, "notes", embedder, source))
    cluster.wait_ready("ragindexes.lateen.dev", shared_namespace, "notes", timeout=120)
    store = f"{shared_namespace}.notes"
    request = long_answer(f"{shared_namespace}.{chat}", max_completion_tokens=4)
    with stopped(stack.pid("weaviate")):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.vector_stores.search(store, query="zebra")
        assert caught.value.status_code in {503, 504}
        assert (await client.chat.completions.create(**request)).choices
    page = await client.vector_stores.search(store, query="zebra")
    assert page.data[0].filename == "a.md"


def test_weights_that_are_deleted_from_the_cache(
    cluster: Cluster, namespace: str, stack: LocalStack, ray: RayServe, sdk: openai.OpenAI, tmp_path: Path
) -> None:
    """A replica that starts after somebody deleted its weights by hand fetches them anew, and the model answers."""
    (controller,) = named(stack, "ray::ServeController")
    endpoint = controller.environ().get("AWS_ENDPOINT_URL")
    if endpoint is None:
        pytest.skip("this stack was started without an S3 endpoint")
    keys = {"access_key_id": sources.KEY, "secret_access_key": sources.SECRET}
    meta = {"name": "s3", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": keys})
    with sources.s3(tmp_path / "s3", urlsplit(endpoint).port) as server:
        weights = stack.volume("models") / "tiny-chat"
        shutil.copytree(weights, server.folder / "models" / namespace)
        source = {"uri": f"s3://models/{namespace}", "secretRef": {"name": "s3"}}
        cluster.apply(manifests.model(namespace, "remote", "generate", "", source=source))
        cluster.wait_ready(KIND, namespace, "remote", timeout=180)
        before = asking.say(sdk, f"{namespace}.remote")
        pid = replica_pid(ray, namespace, "remote")
        process = psutil.Process(pid)
        cache = Path(process.environ()["LATEEN_MODEL_CACHE"])
        entry = entry_in_use(process, cache)
        shutil.rmtree(entry)
        try:
            os.kill(pid, signal.SIGKILL)
            wait_for(
                lambda: replica_pid(ray, namespace, "remote") != pid,
                180,
                "no other replica was started",
                interval=0.5,
            )
            cluster.wait_ready(KIND, namespace, "remote", timeout=60)
            assert (entry / "model.safetensors").stat().st_size == (
                weights / "model.safetensors"
            ).stat().st_size
            assert asking.say(sdk, f"{namespace}.remote") == before
            cluster.delete(KIND, namespace, "remote")
        finally:  # the cache is that of the user, not of the stack
            shutil.rmtree(entry, ignore_errors=True)


def entry_in_use(process: psutil.Process, cache: Path) -> Path:
    """The folder of the model cache that a replica holds, by the lock that it has open."""
    locks = [Path(file.path) for file in process.open_files() if file.path.endswith(".use")]
    (lock,) = [path for path in locks if path.is_relative_to(cache.resolve())]
    return cache / "entries" / lock.name.removesuffix(".use")
