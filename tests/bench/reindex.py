# SPDX-License-Identifier: Apache-2.0
"""An index that is built anew beside its live collection while clients go on searching: what they notice of it.

On a stack of its own. Called by `__main__.py`.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench import figures
from bench.figures import percentile
from stack.local import LocalStack
from stack.parts import RayServe, Weaviate
from stack.waiting import wait_for

NAME = "bulk"
CLIENTS, PAUSE = 2, 0.1
"""Clients, and the seconds each waits between its searches."""

WARM_SECONDS, BEFORE_SECONDS = 5.0, 40.0
REBUILD_SECONDS = 500.0
QUESTIONS = ("when does the harbour open", "which animal sleeps in the office", "who plays the trumpet")


@dataclass
class _Searches:
    """Searches that go on the whole time."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    empty: int = 0

    def quantiles(self, name: str) -> dict[str, float]:
        """The median and the 99th percentile in milliseconds."""
        return {f"{name}_p{p}_ms": 1000 * percentile(self.seconds, p / 100) for p in (50, 99)}


def measure(stack: LocalStack) -> dict[str, Any]:
    """All figures; `stack` has just been started."""
    figures.prepare(stack)
    ray, weaviate = RayServe.of(stack), Weaviate.of(stack)
    with ray.http, weaviate.http:
        ingest = figures.ingest(stack, ray, weaviate)
        figures.settle(ray)
        return {"ingest_ratio": ingest["ratio"], **asyncio.run(_measure(stack, weaviate))}


async def _measure(stack: LocalStack, weaviate: Weaviate) -> dict[str, Any]:
    old = stack.cluster.status(figures.INDEX, figures.NAMESPACE, NAME)
    await _search_during(stack, lambda: time.sleep(WARM_SECONDS))
    before = await _search_during(stack, lambda: time.sleep(BEFORE_SECONDS))
    started = time.monotonic()
    during = await _search_during(stack, lambda: _rebuild(stack, old["collection"]))
    took = time.monotonic() - started
    new = stack.cluster.status(figures.INDEX, figures.NAMESPACE, NAME)
    report = weaviate.report(new["collection"])
    assert report["embedded"] == report["chunks"], "the new collection was not built anew"
    found = before.quantiles("before") | during.quantiles("during")
    return {
        "passages": report["chunks"],
        "clients": CLIENTS,
        "rebuild_s": took,
        **found,
        **{f"ratio_p{p}": found[f"during_p{p}_ms"] / found[f"before_p{p}_ms"] for p in (50, 99)},
        "searches": len(before.seconds) + len(during.seconds),
        "searches_during": len(during.seconds),
        "failed": before.failed + during.failed,
        "empty": before.empty + during.empty,
    }


def _rebuild(stack: LocalStack, old: str) -> None:
    """Cut the documents otherwise, and wait until queries go to the new collection."""
    chunking = {"size": 190, "overlap": 30}
    stack.cluster.patch(figures.INDEX, figures.NAMESPACE, NAME, {"chunking": chunking})

    def moved() -> bool:
        found = stack.cluster.status(figures.INDEX, figures.NAMESPACE, NAME).get("collection")
        return found not in (None, old)

    wait_for(moved, REBUILD_SECONDS, "the new collection does not answer", interval=0.5)
    stack.cluster.wait_ready(figures.INDEX, figures.NAMESPACE, NAME, timeout=60)


async def _search_during(stack: LocalStack, work: Callable[[], None]) -> _Searches:
    """The searches of all clients while `work` runs in a thread."""
    found = _Searches()
    key = {"Authorization": f"Bearer {stack.api_key}"}
    async with aiohttp.ClientSession(headers=key) as session:
        clients = [asyncio.create_task(_client(session, stack, found)) for _ in range(CLIENTS)]
        await asyncio.to_thread(work)
        for task in clients:
            task.cancel()
        ended = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    return found


async def _client(session: aiohttp.ClientSession, stack: LocalStack, found: _Searches) -> None:
    url = f"{stack.gateway_url}/v1/vector_stores/{figures.NAMESPACE}.{NAME}/search"
    number = 0
    while True:
        number += 1
        # Another number each time, so that no search is like an earlier one.
        question = f"{QUESTIONS[number % len(QUESTIONS)]} {number}"
        started = time.perf_counter()
        try:
            async with session.post(url, json={"query": question}) as reply:
                content = await reply.json(content_type=None)
                found.failed += reply.status != 200
                found.empty += reply.status == 200 and not content["data"]
        except (aiohttp.ClientError, TimeoutError):
            found.failed += 1
        found.seconds.append(time.perf_counter() - started)
        await asyncio.sleep(PAUSE)
