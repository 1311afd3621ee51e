# SPDX-License-Identifier: Apache-2.0
"""Last step: server-sent events. Called by `chat.py`, `completions.py` and `responses.py`.

A stream ends with its protocol's last event or with an error event, never silently; when the client goes away the
answer is closed, which stops the replica's work.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lateen_serving.gateway.answers import Answers

DONE = b"data: [DONE]\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def data(content: object) -> bytes:
    """One event without a name, as chat completions use."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


def event(name: str, content: object) -> bytes:
    """One named event, as responses use."""
    return b"event: " + name.encode() + b"\n" + data(content)


class EventStream(StreamingResponse):
    """Sends `chunks`, and closes them and `answers` however it ends."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes, None], answers: Answers) -> None:
        super().__init__(chunks, headers=_HEADERS)
        self._chunks = chunks
        self._answers = answers

    async def stream_response(self, send: Send) -> None:
        """Send all chunks; a cancelled `send` must not leave the generator to the garbage collector."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream or stop when the client has gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answers.aclose()
