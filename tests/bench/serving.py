# SPDX-License-Identifier: Apache-2.0
"""Figures of the way a request takes: what the gateway costs, and how fast replicas come and go. Called by `__main__.py`.

Both sides of each comparison are measured in turns within one run, because machines differ from hour to hour.
"""

import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import http_load, ray_jobs
from bench.http_load import Load
from stack import manifests, tiny
from stack.local import LocalStack
from stack.parts import RayServe
from stack.waiting import wait_for

Figures = dict[str, Any]
MODEL = "modeldeployments.lateen.dev"
CLIENTS = 16
REQUESTS = 800
ROUNDS = 3
PACED_REQUESTS = 600
PAUSE_SECONDS = 0.8
"""Longest pause of a paced client: 16 of them send about 40 requests a second, which leaves the machine room."""

STREAMS = (1, 8, 32)
TOKENS = 64
SHORT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "what is a zebra"}],
    "max_completion_tokens": 1,
    "temperature": 0,
}
HERE = Path(__file__).parent


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rate(stack: LocalStack, ray: RayServe, namespace: str) -> Figures:
    """Requests a second and milliseconds at 16 clients: through the gateway, by the model's handle, by plain Ray Serve."""
    stack.cluster.apply(manifests.model(namespace, "short", "generate", "tiny-chat"))
    status = stack.cluster.wait_ready(MODEL, namespace, "short", timeout=180)["status"]
    order = {"kind": "generate", "application": status["application"], "tokens": 1}
    ours: list[Load] = []
    direct: list[dict[str, Any]] = []
    plain: list[Load] = []
    with _plain_ingress(stack) as plain_url:
        for _ in range(ROUNDS):
            direct.append(ray_jobs.run(ray, order | {"requests": REQUESTS, "clients": CLIENTS}))
            ours.append(_load(_chats(stack), stack.api_key, SHORT | {"model": status["modelId"]}, REQUESTS))
            plain.append(_load(plain_url, "none", SHORT, REQUESTS // 4))
    return _compared(ours, direct, plain)


def paced(stack: LocalStack, ray: RayServe, namespace: str) -> Figures:
    """Milliseconds that the gateway adds to the model's handle for 16 clients that pause between their requests.

    Clients that never pause saturate the machine: their times say how much work a request is, not how long it waits
    for the gateway. Call it after `rate`, whose model it uses.
    """
    status = stack.cluster.status(MODEL, namespace, "short")
    order = {"kind": "generate", "application": status["application"], "tokens": 1, "pause": PAUSE_SECONDS}
    handle: list[float] = []
    through: list[float] = []
    for _ in range(ROUNDS):
        handle += ray_jobs.run(ray, order | {"requests": PACED_REQUESTS, "clients": CLIENTS})["seconds"]
        body = SHORT | {"model": status["modelId"]}
        sent = http_load.send(_chats(stack), stack.api_key, body, CLIENTS, PACED_REQUESTS, PAUSE_SECONDS)
        through += asyncio.run(sent).latencies
    found = {
        f"{name}_p{p}_ms": 1000 * percentile(values, p / 100)
        for name, values in (("gateway", through), ("handle", handle))
        for p in (50, 99)
    }
    added = {f"added_p{p}_ms": found[f"gateway_p{p}_ms"] - found[f"handle_p{p}_ms"] for p in (50, 99)}
    return {"clients": CLIENTS, **found, **added}


def engine_alone(stack: LocalStack) -> Figures:
    """Milliseconds of an answer of the engine in one process, without Ray: with one client the requests of
    `figures.gateway_overhead`, with 16 those of `rate`, so that what handle and gateway add can be told apart.
    """
    orders = {
        "1": {"requests": REQUESTS // 2, "tokens": 4, "clients": 1},
        str(CLIENTS): {"requests": REQUESTS, "tokens": 1, "clients": CLIENTS},
    }
    prompt = SHORT["messages"][0]["content"]
    found = _bare(stack.volume("models") / "tiny-chat", "seconds", prompt=prompt, orders=orders)
    return {
        clients: {f"p{p}_ms": 1000 * percentile(seconds[10:], p / 100) for p in (50, 99)}
        for clients, seconds in found.items()
    }


def _compared(ours: list[Load], direct: list[dict[str, Any]], plain: list[Load]) -> Figures:
    through = [value for load in ours for value in load.latencies]
    handle = [value for result in direct for value in result["seconds"]]
    default = [value for load in plain for value in load.latencies]
    rates = {
        "gateway_requests_per_s": statistics.median(load.requests_per_s for load in ours),
        "handle_requests_per_s": statistics.median(REQUESTS / result["total"] for result in direct),
        "plain_requests_per_s": statistics.median(load.requests_per_s for load in plain),
    }
    times = {
        f"{name}_p{p}_ms": 1000 * percentile(values, p / 100)
        for name, values in (("gateway", through), ("handle", handle), ("plain", default))
        for p in (50, 99)
    }
    ratio = rates["gateway_requests_per_s"] / rates["plain_requests_per_s"]
    added = {f"added_p{p}_ms": times[f"gateway_p{p}_ms"] - times[f"handle_p{p}_ms"] for p in (50, 99)}
    return {"clients": CLIENTS, **rates, **times, **added, "ratio_to_plain": ratio}


def streams(stack: LocalStack, namespace: str) -> Figures:
    """Tokens a second of 1, 8 and 32 streams: through everything, and of the bare engine in a process of its own."""
    path = "smollm2-135m-instruct"
    limits = {"maxOngoingRequests": 64}
    resources = {"cpu": "1", "memory": "1Gi"}
    stack.cluster.apply(
        manifests.model(namespace, "streams", "generate", path, resources=resources, limits=limits)
    )
    model = stack.cluster.wait_ready(MODEL, namespace, "streams", timeout=180)["status"]["modelId"]
    ours: dict[int, list[float]] = {count: [] for count in STREAMS}
    bare: dict[int, list[float]] = {count: [] for count in STREAMS}
    for number in range(ROUNDS):
        prompts = {count: _prompts(count, seed=100 * number + count) for count in STREAMS}
        for count in STREAMS:
            ours[count].append(asyncio.run(_streamed(stack, model, prompts[count])))
        found = _bare(stack.volume("models") / path, "rates", tokens=TOKENS, prompts=prompts)
        for count in STREAMS:
            bare[count].append(found[str(count)])
    return {
        str(count): {
            "tokens_per_s": statistics.median(ours[count]),
            "bare_tokens_per_s": statistics.median(bare[count]),
            "ratio": statistics.median(a / b for a, b in zip(ours[count], bare[count], strict=True)),
        }
        for count in STREAMS
    }


async def _streamed(stack: LocalStack, model: str, prompts: list[str]) -> float:
    common = {"model": model, "temperature": 0, "max_completion_tokens": TOKENS, "stream": True}
    common["stream_options"] = {"include_usage": True}
    bodies = [common | {"messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    started = time.perf_counter()
    loads = await asyncio.gather(
        *(http_load.send(_chats(stack), stack.api_key, body, clients=1, requests=1) for body in bodies)
    )
    return sum(load.tokens for load in loads) / (time.perf_counter() - started)


def scaling(stack: LocalStack, ray: RayServe, namespace: str) -> Figures:
    """Seconds until three replicas serve once the load asks for them, and from no replica to the first token."""
    fast = {"minReplicas": 1, "maxReplicas": 3, "targetOngoingRequests": 2, "downscaleDelay": "2s"}
    slow = {"task": "generate", "path": "tiny-chat"}
    stack.cluster.apply(_scaled(namespace, "grows", **slow, autoscaling=fast))
    grown = stack.cluster.wait_ready(MODEL, namespace, "grows", timeout=180)["status"]
    asked, to_three = _seconds_to_three(stack, ray, grown)
    idle = {"minReplicas": 0, "maxReplicas": 1, "scaleToZeroDelay": "2s"}
    stack.cluster.apply(_scaled(namespace, "sleeps", "generate", "smollm2-135m-instruct", autoscaling=idle))
    asleep = stack.cluster.wait_ready(MODEL, namespace, "sleeps", timeout=180)["status"]
    woken = [_wake(stack, ray, asleep) for _ in range(ROUNDS)]
    status = stack.cluster.status(MODEL, namespace, "sleeps")
    return {
        "three_wanted_s": asked,
        "one_to_three_s": to_three,
        "zero_to_first_token_s": statistics.median(woken),
        "load_s": (status.get("facts") or {}).get("loadSeconds"),
    }


def _scaled(namespace: str, name: str, task: str, path: str, **spec: Any) -> manifests.Manifest:
    made = manifests.model(namespace, name, task, path, **spec)
    made["spec"].pop("replicas", None)
    return made


def _seconds_to_three(stack: LocalStack, ray: RayServe, status: dict[str, Any]) -> tuple[float, float]:
    """From the first request until Ray has started to make two more replicas, and until three serve."""
    body = SHORT | {"model": status["modelId"], "max_completion_tokens": 200}

    def grow(states: Sequence[str]) -> None:
        wait_for(lambda: len(ray.replicas(status["application"], states)) >= 3, 120, "it does not grow")

    async def busy() -> tuple[float, float]:
        load = asyncio.create_task(http_load.send(_chats(stack), stack.api_key, body, 24, 4000))
        started = time.perf_counter()
        try:
            await asyncio.to_thread(grow, ("STARTING", "RUNNING"))
            asked = time.perf_counter() - started
            await asyncio.to_thread(grow, ("RUNNING",))
            return asked, time.perf_counter() - started
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)

    return asyncio.run(busy())


def _wake(stack: LocalStack, ray: RayServe, status: dict[str, Any]) -> float:
    wait_for(lambda: not ray.replicas(status["application"]), 120, "it does not fall asleep")
    return _load(_chats(stack), stack.api_key, SHORT | {"model": status["modelId"]}, 1, clients=1).seconds


def _load(url: str, key: str, body: http_load.Body, requests: int, clients: int = CLIENTS) -> Load:
    return asyncio.run(http_load.send(url, key, body, clients, requests))


def _chats(stack: LocalStack) -> str:
    return f"{stack.gateway_url}/v1/chat/completions"


def _prompts(count: int, seed: int) -> list[str]:
    """Prompts of about 60 words, none like another."""
    dice = random.Random(seed)  # noqa: S311  # nothing secret
    words = tiny.WORDS.split()
    return [" ".join(dice.choice(words) for _ in range(60)) + " Continue." for _ in range(count)]


def _bare(folder: Path, kind: str, **order: Any) -> dict[str, Any]:
    whole = {"kind": kind, "folder": str(folder), "threads": 1, **order}
    command = [sys.executable, str(HERE / "bare_engine.py"), json.dumps(whole)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    found: dict[str, Any] = json.loads(output.rpartition("RESULT ")[2])
    return found


@contextmanager
def _plain_ingress(stack: LocalStack) -> Iterator[str]:
    """The URL of plain Ray Serve with the same weights, in a Ray of its own with Ray's default settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["LATEEN_VOLUMES"] = str(stack.state.volumes)
    arguments = {"id": "plain", "task": "generate", "uri": "pvc://models/tiny-chat", "engine": "transformers"}
    command = [sys.executable, str(HERE / "plain_ingress.py"), str(port), json.dumps(arguments)]
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert any(line.startswith("READY") for line in process.stdout), "plain Ray Serve did not start"
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.stdin.close()
        process.wait(timeout=60)
