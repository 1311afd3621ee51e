# SPDX-License-Identifier: Apache-2.0
"""The figures, each a function of a running stack that returns plain numbers. Called by `__main__.py`."""

import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import openai
import psutil

from bench import ray_jobs
from stack import manifests, tiny
from stack.local import REPOSITORY, SHIPPED_RESYNC_SECONDS, LocalStack
from stack.parts import RayServe, Weaviate
from stack.waiting import wait_for

Figures = dict[str, Any]
MODEL, PROMPT, INDEX = "modeldeployments.lateen.dev", "prompttemplates.lateen.dev", "ragindexes.lateen.dev"
NAMESPACE = "bench"
ROUNDS = 3
REQUESTS = 200
DOCUMENTS = 200
WORDS_PER_DOCUMENT = 600


@contextmanager
def sdk(stack: LocalStack) -> Iterator[openai.OpenAI]:
    """The official SDK for a stack."""
    http = openai.DefaultHttpxClient(trust_env=False, timeout=120)
    with openai.OpenAI(
        base_url=f"{stack.gateway_url}/v1", api_key=stack.api_key, max_retries=0, http_client=http
    ) as caller:
        yield caller


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def first_answer(stack: LocalStack) -> Figures:
    """From nothing running to the quickstart's first answer, in seconds, caches filled."""
    started = time.monotonic()
    stack.start(SHIPPED_RESYNC_SECONDS)
    up = time.monotonic()
    stack.cluster.run("apply", "-f", str(REPOSITORY / "crds" / "samples" / "quickstart"))
    for kind, name in (
        (MODEL, "smollm2"),
        (MODEL, "minilm"),
        (PROMPT, "grounded-answer"),
        (INDEX, "handbook"),
    ):
        stack.cluster.wait_ready(kind, "default", name, timeout=300)
    ready = time.monotonic()
    with sdk(stack) as caller:
        response = caller.responses.create(
            model="smollm2",
            prompt={"id": "grounded-answer", "variables": {"question": "How long must a password be?"}},
            tools=[{"type": "file_search", "vector_store_ids": ["handbook"]}],
        )
    assert response.output_text
    ended = time.monotonic()
    return {
        "stack_up_s": up - started,
        "resources_ready_s": ready - up,
        "answer_s": ended - ready,
        "total_s": ended - started,
    }


def memory(stack: LocalStack) -> Figures:
    """Idle memory in MiB (PSS: shared pages are counted once in all) by what the processes are."""
    groups: dict[str, float] = defaultdict(float)
    for process in stack.processes():
        try:
            groups[_group(process)] += process.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:
            continue
    return {"mib": dict(sorted(groups.items())), "total_mib": sum(groups.values())}


def _group(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    known = {
        "ServeReplica:gateway": "gateway", "ServeReplica:default_smollm2": "model smollm2",
        "ServeReplica:default_minilm": "model minilm", "ServeReplica": "other replicas", "lateen_operator": "operator",
        "lateen_cli": "lateen up", "etcd": "etcd", "kube-apiserver": "kube-apiserver", "haproxy": "HAProxy",
        "kube-controller-manager": "kube-controller-manager", "weaviate": "Weaviate",
    }  # fmt: skip
    program = line.split(" ", 1)[0].rsplit("/", 1)[-1]
    for word, group in known.items():
        if word == program or (":" in word and word in line) or f"-m {word}" in line:
            return group
    return "other replicas" if "ServeReplica" in line else "Ray"


def gateway_overhead(stack: LocalStack, ray: RayServe) -> Figures:
    """What the gateway adds: answers of a tiny model through it and through the model's handle, in turns."""
    stack.cluster.apply(manifests.model(NAMESPACE, "tiny", "generate", "tiny-chat"))
    status = stack.cluster.wait_ready(MODEL, NAMESPACE, "tiny", timeout=180)["status"]
    through: list[float] = []
    direct: list[float] = []
    order = {"kind": "generate", "application": status["application"], "requests": REQUESTS, "tokens": 4}
    with sdk(stack) as caller:
        for _ in range(ROUNDS):
            direct += ray_jobs.run(ray, dict(order))["seconds"][10:]
            through += _timed(lambda: _say(caller, status["modelId"]))[10:]
    return {
        "requests": len(through),
        **{f"gateway_p{p}_ms": 1000 * percentile(through, p / 100) for p in (50, 99)},
        **{f"direct_p{p}_ms": 1000 * percentile(direct, p / 100) for p in (50, 99)},
        "overhead_p50_ms": 1000 * (percentile(through, 0.5) - percentile(direct, 0.5)),
        "overhead_p99_ms": 1000 * (percentile(through, 0.99) - percentile(direct, 0.99)),
    }


def _say(caller: openai.OpenAI, model: str) -> object:
    messages: Any = [{"role": "user", "content": "what is a zebra"}]
    return caller.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=4, temperature=0
    )


def _timed(call: Callable[[], object]) -> list[float]:
    seconds = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds


def ingest(stack: LocalStack, ray: RayServe, weaviate: Weaviate) -> Figures:
    """Tokens a second of an index build, against the bare embedder on the same passages."""
    folder = stack.volume("bench-documents")
    write_documents(folder)
    stack.cluster.apply(
        manifests.model(NAMESPACE, "minilm", "embed", "all-minilm-l6-v2", resources={"cpu": "2"})
    )
    application = stack.cluster.wait_ready(MODEL, NAMESPACE, "minilm", timeout=180)["status"]["application"]
    source = {"files": {"pvc": {"claimName": "bench-documents"}}}
    chunking = {"size": 200, "overlap": 32}
    stack.cluster.apply(manifests.index(NAMESPACE, "bulk", "minilm", source, chunking=chunking))
    status = stack.cluster.wait_ready(INDEX, NAMESPACE, "bulk", timeout=600)["status"]
    report = weaviate.report(status["collection"])
    building = _seconds(report["startedAt"], report["finishedAt"])
    passages = stack.state.root / "bench-passages.json"
    texts = [entry["properties"]["text"] for entry in weaviate.objects(status["collection"])]
    passages.write_text(json.dumps(texts))
    order = {"kind": "embed", "application": application, "file": str(passages), "batch": 32, "at_once": 4}
    bare = ray_jobs.run(ray, order)
    rate, bare_rate = report["tokens"] / building, bare["tokens"] / bare["seconds"]
    return {
        "passages": report["chunks"],
        "tokens_per_s": rate,
        "bare_embedder_tokens_per_s": bare_rate,
        "ratio": rate / bare_rate,
    }


def ingest_alone(stack: LocalStack) -> Figures:
    """The same on a stack that has just been started."""
    prepare(stack)
    ray, weaviate = RayServe.of(stack), Weaviate.of(stack)
    with ray.http, weaviate.http:
        return ingest(stack, ray, weaviate)


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def write_documents(folder: Path) -> None:
    """The same documents of everyday words each time."""
    dice = random.Random(1)  # noqa: S311  # nothing secret
    words = tiny.WORDS.split()
    for number in range(DOCUMENTS):
        text = " ".join(dice.choice(words) for _ in range(WORDS_PER_DOCUMENT))
        (folder / f"{number:04}.md").write_text(f"# Document {number}\n{text}\n")


def create_to_ready(stack: LocalStack) -> Figures:
    """Seconds from `kubectl apply` to Ready of each kind; tiny models, one document; the median of three."""
    stack.cluster.apply(manifests.model(NAMESPACE, "near", "embed", "tiny-embed"))
    stack.cluster.wait_ready(MODEL, NAMESPACE, "near", timeout=180)
    text = {"docs": manifests.inline({"a.md": "The zebra is purple."})}
    makers: dict[str, tuple[str, Callable[[str], manifests.Manifest]]] = {
        "ModelDeployment": (MODEL, lambda name: manifests.model(NAMESPACE, name, "generate", "tiny-chat")),
        "PromptTemplate": (PROMPT, lambda name: manifests.prompt(NAMESPACE, name)),
        "RAGIndex": (INDEX, lambda name: manifests.index(NAMESPACE, name, "near", text)),
    }
    return {kind: statistics.median(_ready_times(stack, *maker)) for kind, maker in makers.items()}


def _ready_times(stack: LocalStack, kind: str, make: Callable[[str], manifests.Manifest]) -> Iterator[float]:
    for number in range(ROUNDS):
        name = f"ready-{number}"
        started = time.monotonic()
        stack.cluster.apply(make(name))
        stack.cluster.wait_ready(kind, NAMESPACE, name, timeout=180)
        yield time.monotonic() - started
        stack.cluster.delete(kind, NAMESPACE, name)


def prepare(stack: LocalStack) -> None:
    """The namespace of the measurements."""
    stack.cluster.apply(manifests.namespace_manifest(NAMESPACE))


def settle(ray: RayServe) -> None:
    """Wait until every application is RUNNING, so that nothing starts while something is measured."""
    wait_for(
        lambda: all(found["status"] == "RUNNING" for found in ray.applications().values()),
        120,
        "applications do not come to rest",
        interval=1,
    )
