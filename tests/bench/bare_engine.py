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


async def _answer(engine: TextGenerator, request: GenerateRequest) -> int:
    tokens = 0
    async for event in engine.generate(request):
        tokens = event["completion_tokens"]
    return tokens


async def measure(folder: str, threads: int, prompts: dict[str, list[str]], tokens: int) -> dict[str, float]:
    """Tokens a second for each entry of `prompts`: as many streams at once as it has prompts."""
    engine = await TextGenerator.create(LoadOptions(Path(folder), threads=threads))

    def request(prompt: str) -> GenerateRequest:
        messages: Any = [{"role": "user", "content": prompt}]
        return GenerateRequest(
            messages=messages, max_tokens=tokens, temperature=0.0, top_p=1.0, seed=None, stop=[]
        )

    await _answer(engine, request("warm up"))
    rates = {}
    for name, texts in prompts.items():
        started = time.perf_counter()
        generated = sum(await asyncio.gather(*(_answer(engine, request(text)) for text in texts)))
        rates[name] = generated / (time.perf_counter() - started)
    await engine.aclose()
    return rates


if __name__ == "__main__":
    sys.stdout.write("RESULT " + json.dumps(asyncio.run(measure(**json.loads(sys.argv[1])))) + "\n")
