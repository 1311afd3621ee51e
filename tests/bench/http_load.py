# SPDX-License-Identifier: Apache-2.0
"""Clients that send requests as fast as they are answered, or with pauses, in one process and one event loop; used by
`serving.py`, `prompt_scale.py` and `reindex.py`.

A plain HTTP client, because the official SDK's own work would be a large part of what is measured.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

Body = Mapping[str, Any]
QUESTIONS = ("when does the harbour open", "which animal sleeps in the office", "who plays the trumpet")


@dataclass(frozen=True)
class Load:
    """What came of it."""

    seconds: float
    """From the first request to the last reply."""
    latencies: tuple[float, ...]
    """Seconds of each request."""
    tokens: int
    """Generated tokens of all replies."""

    @property
    def requests_per_s(self) -> float:
        """Rate of requests."""
        return len(self.latencies) / self.seconds

    @property
    def tokens_per_s(self) -> float:
        """Rate of tokens."""
        return self.tokens / self.seconds


async def send(url: str, key: str, body: Body, clients: int, requests: int, pause: float = 0.0) -> Load:
    """`requests` requests by `clients` clients, each with at most `pause` seconds (half of it on average, by chance)
    before every request; a reply other than 200, or a stream without its end, is an error.
    """
    dice = random.Random(0)  # noqa: S311  # nothing secret
    todo = iter(range(requests))
    latencies: list[float] = []
    tokens = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal tokens
        for _ in todo:
            await asyncio.sleep(pause * dice.random())
            started = time.perf_counter()
            tokens += await _one(session, url, body)
            latencies.append(time.perf_counter() - started)

    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=clients)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        started = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return Load(time.perf_counter() - started, tuple(latencies), tokens)


async def keep_sending(
    urls: Sequence[str], key: str, body: Body, pause: float
) -> AsyncGenerator[float | None]:
    """One client without end, one address after the other, `pause` seconds between its requests.

    Yields the seconds of each request; None for one that failed, by its status or on the way.
    """
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for url in itertools.cycle(urls):
            started = time.perf_counter()
            succeeded = await _succeeds(session, url, body)
            yield time.perf_counter() - started if succeeded else None
            await asyncio.sleep(pause)


async def keep_searching(url: str, key: str, pause: float) -> AsyncGenerator[tuple[float, int | None]]:
    """One client that searches an index without end, each time for something else, `pause` seconds between its requests.

    Yields the seconds of each request and how many passages were found; None for one that failed.
    """
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for number in itertools.count():
            started = time.perf_counter()
            found = await _found(session, url, f"{QUESTIONS[number % len(QUESTIONS)]} {number}")
            yield time.perf_counter() - started, found
            await asyncio.sleep(pause)


async def _found(session: aiohttp.ClientSession, url: str, question: str) -> int | None:
    try:
        async with session.post(url, json={"query": question}) as reply:
            content = await reply.json(content_type=None)
            return len(content["data"]) if reply.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


async def _succeeds(session: aiohttp.ClientSession, url: str, body: Body) -> bool:
    try:
        async with session.post(url, json=body) as reply:
            await reply.read()
            return reply.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _one(session: aiohttp.ClientSession, url: str, body: Body) -> int:
    """Send one request; the tokens of its reply."""
    async with session.post(url, json=body) as reply:
        content = await reply.read()
    assert reply.status == 200, content[:500]
    if not body.get("stream"):
        return int((json.loads(content).get("usage") or {}).get("completion_tokens", 0))
    events = [line[6:] for line in content.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]", events[-1]
    return int(json.loads(events[-2])["usage"]["completion_tokens"])
