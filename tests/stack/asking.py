# SPDX-License-Identifier: Apache-2.0
"""Short forms of what tests ask through the official SDK."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import openai

from stack import tiny


def say(sdk: openai.OpenAI, model: str, text: str = "what is a zebra", tokens: int = 8) -> str:
    """A greedy answer; fails unless the reply is complete."""
    reply = sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        max_completion_tokens=tokens,
        temperature=0,
    )
    choice = reply.choices[0]
    assert choice.finish_reason in ("stop", "length"), choice
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 0
    return choice.message.content or ""


def stream(sdk: openai.OpenAI, model: str, text: str = "what is a zebra", tokens: int = 64) -> str:
    """A greedy answer, streamed; fails unless the stream ends as it should."""
    pieces: list[str] = []
    finish = None
    for chunk in sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        max_completion_tokens=tokens,
        temperature=0,
        stream=True,
    ):
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    assert finish in ("stop", "length"), f"the stream ended without a reason after {pieces}"
    return "".join(pieces)


def full(sdk: openai.OpenAI, model: str, tokens: int, *talk: str) -> str:
    """A greedy answer of a tiny model that is sure to have so many tokens; user and assistant take turns in `talk`."""
    reply = sdk.chat.completions.create(
        model=model,
        messages=[
            {"role": "assistant", "content": text} if number % 2 else {"role": "user", "content": text}
            for number, text in enumerate(talk)
        ],
        max_completion_tokens=tokens,
        temperature=0,
        logit_bias={str(tiny.END): -100},
    )
    assert reply.usage is not None
    assert reply.usage.completion_tokens == tokens
    return reply.choices[0].message.content or ""


def find(sdk: openai.OpenAI, index: str, query: str, limit: int = 3) -> list[str]:
    """Ids of the documents that hold the best passages, best first."""
    page = sdk.vector_stores.search(vector_store_id=index, query=query, max_num_results=limit)
    return [result.file_id for result in page.data]


def texts(sdk: openai.OpenAI, index: str, query: str, limit: int = 3) -> str:
    """The best passages, joined."""
    page = sdk.vector_stores.search(vector_store_id=index, query=query, max_num_results=limit)
    return "\n".join(part.text for result in page.data for part in result.content)


def listed(sdk: openai.OpenAI) -> set[str]:
    """Ids of the models the key may use."""
    return {model.id for model in sdk.models.list()}


def plain(client: openai.AsyncOpenAI, connections: int = 100) -> httpx.AsyncClient:
    """HTTP as the SDK's client speaks it, to see what the SDK hides; never tries again by itself."""
    return httpx.AsyncClient(
        base_url=str(client.base_url),
        headers={"Authorization": f"Bearer {client.api_key}"},
        timeout=300,
        limits=httpx.Limits(max_connections=connections),
        trust_env=False,
    )


async def events(http: httpx.AsyncClient, request: Mapping[str, Any], began: asyncio.Event) -> list[str]:
    """The data of a whole chat stream, event by event; `began` is set at the first text."""
    found: list[str] = []
    async with http.stream("POST", "chat/completions", json=dict(request) | {"stream": True}) as reply:
        assert reply.status_code == 200, await reply.aread()
        async for line in reply.aiter_lines():
            if not line.startswith("data: "):
                continue
            found.append(line.removeprefix("data: "))
            if not began.is_set() and _text(found[-1]):
                began.set()
    return found


def _text(data: str) -> str:
    """The text of a chat stream's event."""
    choices = json.loads(data).get("choices", []) if data != "[DONE]" else []
    return "".join(choice["delta"].get("content") or "" for choice in choices)
