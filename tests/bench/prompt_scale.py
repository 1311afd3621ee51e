# SPDX-License-Identifier: Apache-2.0
"""Prompts by the thousand: how long a change takes to be live when there are 200 templates with 20 versions each.

On a stack of its own that resyncs as often as by default. Called by `__main__.py`.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil

from bench import http_load
from bench.figures import percentile
from lateen_api import names, packing
from stack import manifests
from stack.cluster import condition
from stack.local import LocalStack
from stack.parts import RayServe

NAMESPACE = "many"
TEMPLATES, VERSIONS = 200, 20
CHANGES = 15
"""Changes that are measured alone, once everything is there."""

AT_ONCE = 16
"""Requests to the API server at the same time."""

WAVE_SECONDS = 90
"""Longest time until all templates are live in a version."""

LOAD_CLIENTS, LOAD_PAUSE = 2, 0.1
RESYNC_SECONDS = 15.0
"""The operator's default."""

_PATH = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/prompttemplates"
_TEXT = "Answer from these sources only, in the language of the question, and say so when they don't tell. "


def measure(stack: LocalStack) -> dict[str, Any]:
    """All figures; `stack` has just been started with RESYNC_SECONDS."""
    stack.cluster.apply(manifests.namespace_manifest(NAMESPACE))
    operator = psutil.Process(stack.pid("operator"))
    started = time.monotonic()
    with _proxy(stack) as api:
        found = asyncio.run(_Run(stack, api).measure())
    ray = RayServe.of(stack)
    with ray.http:
        gateway = ray.applications()[names.GATEWAY_APPLICATION]["deployed_app_config"]
    text = gateway["deployments"][0]["user_config"]["catalog"]
    catalog = packing.unpack(text)
    kept = sum(len(prompt["revisions"]) for prompt in catalog["prompts"])
    assert kept >= TEMPLATES * VERSIONS, f"only {kept} revisions are in the catalog"
    times = operator.cpu_times()
    return {
        "templates": TEMPLATES,
        "versions": VERSIONS,
        "kept": kept,
        **found,
        "catalog_bytes": len(json.dumps(catalog, separators=(",", ":"), ensure_ascii=False).encode()),
        "packed_bytes": len(text),
        "operator_cpu_s": times.user + times.system,
        "operator_mib": operator.memory_full_info().pss / 2**20,
        "total_s": time.monotonic() - started,
    }


@contextmanager
def _proxy(stack: LocalStack) -> Iterator[str]:
    """The API server over plain HTTP: kubectl, one process for each change, would be most of what is measured."""
    process = subprocess.Popen(
        [stack.cluster.kubectl_path, "proxy", "--port=0", f"--kubeconfig={stack.cluster.kubeconfig}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _spec(number: int, version: int) -> dict[str, Any]:
    return {
        "version": str(version),
        "messages": [
            {"role": "system", "content": f"You are assistant {number}.{version}. {_TEXT * 4}"},
            {"role": "user", "content": "{context}\n\nQuestion of {name}: {question}"},
        ],
        "variables": [
            {"name": "context", "from": "retrieval"},
            {"name": "name", "rules": [{"maxLength": 64}]},
            {"name": "question", "rules": [{"maxLength": 4000}]},
        ],
        "revisionHistoryLimit": VERSIONS,
    }


@dataclass
class _Load:
    """Dry runs that go on the whole time."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


class _Run:
    """One run; `api` is the address of the API server."""

    def __init__(self, stack: LocalStack, api: str) -> None:
        self._api, self._gateway, self._key = api, stack.gateway_url, stack.api_key
        self._sent: dict[int, float] = {}
        self._live: dict[tuple[int, str], float] = {}
        self._news = asyncio.Event()
        self._load = _Load()
        self._ended = 0
        """Watches that ended."""

    async def measure(self) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=None, connect=10)
        connector = aiohttp.TCPConnector(limit=AT_ONCE + 1)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            watch = asyncio.create_task(self._watch(session))
            created = await self._wave(session, 1)
            clients = [asyncio.create_task(self._client()) for _ in range(LOAD_CLIENTS)]
            for version in range(2, VERSIONS):
                await self._wave(session, version)
            changed = await self._wave(session, VERSIONS)
            alone = [await self._change(session, number) for number in range(CHANGES)]
            for task in (watch, *clients):
                task.cancel()
            ended = await asyncio.gather(watch, *clients, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
        return {
            **_quantiles("create", created),
            **_quantiles("change_all", changed),
            **_quantiles("change_one", alone),
            "requests": len(self._load.seconds) + self._load.failed,
            "failed_requests": self._load.failed,
            **{f"request_p{p}_ms": 1000 * percentile(self._load.seconds, p / 100) for p in (50, 99)},
        }

    async def _wave(self, session: aiohttp.ClientSession, version: int) -> list[float]:
        """Give every template a version; seconds until each is live."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with limit:
                await self._apply(session, number, version)

        await asyncio.gather(*(one(number) for number in range(TEMPLATES)))
        return await self._wait_live(range(TEMPLATES), str(version))

    async def _change(self, session: aiohttp.ClientSession, number: int) -> float:
        """Seconds until one new version is live, all others being as they are."""
        await self._apply(session, number, VERSIONS + 1)
        return (await self._wait_live([number], str(VERSIONS + 1)))[0]

    async def _apply(self, session: aiohttp.ClientSession, number: int, version: int) -> None:
        name = f"prompt-{number:03}"
        body = manifests.resource("PromptTemplate", NAMESPACE, name, _spec(number, version))
        self._sent[number] = time.monotonic()
        async with session.patch(
            f"{self._api}{_PATH}/{name}?fieldManager=bench&force=true",
            data=json.dumps(body),
            headers={"Content-Type": "application/apply-patch+yaml"},
        ) as reply:
            assert reply.status in (200, 201), await reply.text()

    async def _wait_live(self, numbers: Iterable[int], version: str) -> list[float]:
        wanted = [(number, version) for number in numbers]
        try:
            async with asyncio.timeout(WAVE_SECONDS):
                while not all(each in self._live for each in wanted):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            missing = [each for each in wanted if each not in self._live]
            raise AssertionError(
                f"not live: {missing[:5]} of {len(missing)}; {self._ended} watches ended"
            ) from None
        return [self._live[each] - self._sent[each[0]] for each in wanted]

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        """Note when each version was first Ready. A watch that ends is begun again, and then tells of everything anew."""
        while True:
            async with session.get(f"{self._api}{_PATH}?watch=1", read_bufsize=2**24) as reply:
                async for line in reply.content:
                    self._note(json.loads(line)["object"])
            self._ended += 1

    def _note(self, item: dict[str, Any]) -> None:
        status = item.get("status") or {}
        ready = condition(item)
        is_current = ready.get("observedGeneration") == item["metadata"]["generation"]
        if ready.get("status") == "True" and is_current and status.get("version"):
            number = int(item["metadata"]["name"].rpartition("-")[2])
            self._live.setdefault((number, status["version"]), time.monotonic())
            self._news.set()

    async def _client(self) -> None:
        """Dry runs of one prompt after the other."""
        urls = [
            f"{self._gateway}/v1/prompts/{NAMESPACE}.prompt-{number:03}/render" for number in range(TEMPLATES)
        ]
        body = {"variables": {"name": "Jo", "question": "When does the harbour open?"}}
        async for seconds in http_load.keep_sending(urls, self._key, body, LOAD_PAUSE):
            if seconds is None:
                self._load.failed += 1
            else:
                self._load.seconds.append(seconds)


def _quantiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    return {f"{name}_p{p}_s": percentile(seconds, p / 100) for p in (50, 95)}
