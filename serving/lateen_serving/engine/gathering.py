# SPDX-License-Identifier: Apache-2.0
"""Several events of an answer as one: each message to the gateway costs both sides more than the token in it.

Used by `generator.py` and `app.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from lateen_serving.engine.protocol import TokenEvent

SECONDS = 1.0
"""How long tokens of an answer that its client gets at its end are held."""


def merged(events: Sequence[TokenEvent]) -> TokenEvent:
    """Events that follow each other, as one; at least one."""
    last = events[-1]
    if len(events) > 1:
        last = last.copy()
        last["text"] = "".join(event["text"] for event in events)
        # Engines may leave them out of an event that has no token, such as that of vLLM's end token.
        if any("logprobs" in event for event in events):
            last["logprobs"] = [item for event in events for item in event.get("logprobs", [])]
    return last


async def gathered(
    events: AsyncGenerator[TokenEvent, None], seconds: float = SECONDS
) -> AsyncGenerator[TokenEvent, None]:
    """The first of `events` at once, then one for every `seconds` or longer, and the end at once; closes `events`."""
    clock = asyncio.get_running_loop().time
    held: list[TokenEvent] = []
    due = 0.0
    try:
        async for event in events:
            held.append(event)
            if "finish_reason" in event or clock() >= due:
                yield merged(held)
                held, due = [], clock() + seconds
    finally:
        await events.aclose()
