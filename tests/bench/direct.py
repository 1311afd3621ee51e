# SPDX-License-Identifier: Apache-2.0
"""What an engine does when it is called through its Ray Serve handle, without the gateway: the other side of a comparison.

Runs as a Ray job on the stack's own cluster (`ray_jobs.py` submits it); prints one line of JSON.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any


def _handle(application: str) -> Any:
    from ray import serve

    from lateen_api import names

    return serve.get_deployment_handle(names.MODEL_DEPLOYMENT, application)


async def generate(
    application: str, requests: int, tokens: int, clients: int = 1, pause: float = 0.0
) -> dict[str, Any]:
    """Seconds of each of `requests` answers, `clients` of them at the same time, and of all together; each client waits
    at most `pause` seconds (half of it on average, by chance) before every request.
    """
    dice = random.Random(0)  # noqa: S311  # nothing secret
    handle = _handle(application).generate.options(stream=True)
    request = {
        "messages": [{"role": "user", "content": "what is a zebra"}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": None,
        "stop": [],
    }
    todo = iter(range(requests))
    seconds: list[float] = []

    async def client() -> None:
        for _ in todo:
            await asyncio.sleep(pause * dice.random())
            started = time.perf_counter()
            async for _event in handle.remote(request):
                pass
            seconds.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return {"seconds": seconds, "total": time.perf_counter() - started}


async def embed(application: str, texts: Sequence[str], batch: int, at_once: int) -> dict[str, Any]:
    """Seconds to embed all `texts` in batches, `at_once` of them under way at the same time, and their tokens."""
    handle = _handle(application).embed
    batches = [list(texts[start : start + batch]) for start in range(0, len(texts), batch)]
    gate = asyncio.Semaphore(at_once)

    async def one(part: list[str]) -> int:
        async with gate:
            reply = await handle.remote(part)
        return sum(reply["tokens"])

    await one(batches[0])
    started = time.perf_counter()
    tokens = sum(await asyncio.gather(*(one(part) for part in batches)))
    return {"seconds": time.perf_counter() - started, "tokens": tokens}


async def calls(application: str, method: str, arguments: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Seconds of each call of a model's `method`, one after the other; the first few, which are slower, are left out."""
    handle = getattr(_handle(application), method)
    seconds: list[float] = []
    for each in [*arguments[:5], *arguments]:
        started = time.perf_counter()
        await handle.remote(*each)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[5:]}


async def main(order: dict[str, Any]) -> dict[str, Any]:
    """Do what `order` says."""
    import ray

    ray.init(address="auto", namespace="serve", log_to_driver=False)
    kind = order.pop("kind")
    if kind != "generate":
        with open(order.pop("file"), encoding="utf-8") as file:  # noqa: PTH123, ASYNC230  # before anything runs
            given = json.load(file)
        return await (embed(texts=given, **order) if kind == "embed" else calls(arguments=given, **order))
    return await generate(**order)


if __name__ == "__main__":
    sys.stdout.write("RESULT " + json.dumps(asyncio.run(main(json.loads(sys.argv[1])))) + "\n")
