# SPDX-License-Identifier: Apache-2.0
"""The engine without Ray and gateway, in a process of its own: what the rest of the path is compared with.

`serving.py` runs it; arguments: one JSON object; prints one line of JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import GenerateRequest


def _request(prompt: str, tokens: int) -> GenerateRequest:
    messages: Any = [{"role": "user", "content": prompt}]
    return GenerateRequest(
        messages=messages, max_tokens=tokens, temperature=0.0, top_p=1.0, seed=None, stop=[]
    )


async def _answer(engine: TextGenerator, request: GenerateRequest) -> int:
    tokens = 0
    async for event in engine.generate(request):
        tokens = event["completion_tokens"]
    return tokens


async def rates(engine: TextGenerator, prompts: dict[str, list[str]], tokens: int) -> dict[str, float]:
    """Tokens a second for each entry of `prompts`: as many streams at once as it has prompts."""
    found = {}
    for name, texts in prompts.items():
        started = time.perf_counter()
        asked = (_answer(engine, _request(text, tokens)) for text in texts)
        found[name] = sum(await asyncio.gather(*asked)) / (time.perf_counter() - started)
    return found


async def seconds(
    engine: TextGenerator, prompt: str, orders: dict[str, dict[str, int]]
) -> dict[str, list[float]]:
    """Seconds of each answer for each of `orders`: `requests` answers of `tokens`, `clients` of them at the same time."""
    return {name: await _timed(engine, prompt, **order) for name, order in orders.items()}


async def _timed(engine: TextGenerator, prompt: str, requests: int, tokens: int, clients: int) -> list[float]:
    todo = iter(range(requests))
    found: list[float] = []

    async def client() -> None:
        for _ in todo:
            started = time.perf_counter()
            await _answer(engine, _request(prompt, tokens))
            found.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def measure(kind: str, folder: str, threads: int, **order: Any) -> dict[str, Any]:
    """What `rates` or `seconds` finds with an engine that has answered once."""
    engine = await TextGenerator.create(LoadOptions(Path(folder), threads=threads))
    await _answer(engine, _request("warm up", tokens=4))
    try:
        return await (rates(engine, **order) if kind == "rates" else seconds(engine, **order))
    finally:
        await engine.aclose()


if __name__ == "__main__":
    sys.stdout.write("RESULT " + json.dumps(asyncio.run(measure(**json.loads(sys.argv[1])))) + "\n")
