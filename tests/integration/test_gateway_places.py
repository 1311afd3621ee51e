# SPDX-License-Identifier: Apache-2.0
"""More requests at once than the gateway works on: what each client is told."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openai
import psutil

from lateen_api.serve_config import GATEWAY_MAX_ONGOING_REQUESTS
from stack import manifests
from stack.cluster import Cluster
from stack.parts import RayServe

KIND = "modeldeployments.lateen.dev"


@dataclass(frozen=True)
class Reply:
    """What came back on a connection of its own."""

    status: int
    headers: Mapping[str, str]
    content: Mapping[str, Any]

    @property
    def code(self) -> str:
        """That of its error; empty for an answer."""
        return str(self.content.get("error", {}).get("code", ""))


async def half_sent(client: openai.AsyncOpenAI, request: Mapping[str, Any], rest: asyncio.Event) -> Reply:
    """A chat request whose body's second half is sent when `rest` is set; its reply, which may come before."""
    url, body = client.base_url, json.dumps(request).encode()
    head = f"POST {url.path}chat/completions HTTP/1.1\r\nHost: {url.host}\r\n"
    head += f"Authorization: Bearer {client.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(head.encode() + body[:10])
        reading = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        waiting = asyncio.create_task(rest.wait())
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not reading.done():
            writer.write(body[10:])
        line, *lines = (await reading).decode().rstrip().split("\r\n")
        headers = dict(each.lower().split(": ", 1) for each in lines)
        content = await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
    return Reply(int(line.split()[1]), headers, json.loads(content))


async def test_more_requests_than_the_gateway_has_places_for_are_refused(
    cluster: Cluster, namespace: str, ray: RayServe, client: openai.AsyncOpenAI
) -> None:
    """Of three times as many as it works on, all that are beyond are told at once, in OpenAI's shape; the others are
    answered, or refused by their model's queue; and the gateway's memory stays bounded.
    """
    await asyncio.to_thread(cluster.apply, manifests.model(namespace, "chat", "generate", "tiny-chat"))
    await asyncio.to_thread(cluster.wait_ready, KIND, namespace, "chat", timeout=180)
    request = {
        "model": f"{namespace}.chat",
        "messages": [{"role": "user", "content": "what is a zebra"}],
        "max_completion_tokens": 1,
    }
    places, rest = GATEWAY_MAX_ONGOING_REQUESTS, asyncio.Event()
    gateway = psutil.Process(await asyncio.to_thread(ray.pid, "gateway", "Gateway"))
    before = gateway.memory_info().rss
    async with asyncio.timeout(200):
        asked = [asyncio.create_task(half_sent(client, request, rest)) for _ in range(3 * places)]
        pending = set(asked)
        while len(pending) > places:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        grown = gateway.memory_info().rss - before
        assert (await client.models.list()).data
        assert len(pending) == places
        rest.set()
        answered = await asyncio.gather(*pending)
    beyond = [task.result() for task in asked if task not in pending]
    for reply in beyond:
        assert (reply.status, reply.code) == (503, "overloaded"), reply
        assert int(reply.headers["retry-after"]) >= 1
    assert {(reply.status, reply.code) for reply in answered} <= {(200, ""), (503, "overloaded")}
    assert sum(reply.status == 200 for reply in answered) >= 128
    assert grown < 256 * 2**20, f"{grown / 2**20:.0f} MiB more"
