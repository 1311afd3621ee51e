# SPDX-License-Identifier: Apache-2.0
"""Last step: server-sent events. Called by `chat.py`, `completions.py` and `responses.py`.

A stream ends with its protocol's last event, never silently: `[DONE]` of completions, `response.completed` or
`response.failed` of responses. A failure in the middle is an error event before it. The official client raises at the
error event and reads no further; clients that read until `[DONE]` end too, as they do with vLLM, which sends both.
What did not end in this way, was cut.

When the client goes away the answer is closed, which stops the replica's work. A comment now and then keeps a slow
stream's connection open: proxies end silent ones.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lateen_serving.errors import ServiceError
from lateen_serving.gateway import replies
from lateen_serving.gateway.answers import Answers

DONE = b"data: [DONE]\n\n"
HEARTBEAT_SECONDS = 15.0
"""Longest silence of a stream; proxies end connections after 60 seconds of it."""

_HEARTBEAT = b": keep-alive\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def data(content: object) -> bytes:
    """One event without a name, as chat completions use."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


def event(name: str, content: object) -> bytes:
    """One named event, as responses use."""
    return b"event: " + name.encode() + b"\n" + data(content)


def failure(error: ServiceError) -> bytes:
    """How completions and chat completions end that fail in the middle."""
    return data({"error": replies.error_object(error)}) + DONE


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
        line = _Line(send)
        beating = asyncio.create_task(line.keep_alive())
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    await line.write(chunk)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream or stop when the client has gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answers.aclose()


class _Line:
    """The way to the client, which the events and the heartbeat share."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._free = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self._written = self._clock()

    async def write(self, content: bytes) -> None:
        """Send whole events or a comment."""
        async with self._free:
            await self._send({"type": "http.response.body", "body": content, "more_body": True})
            self._written = self._clock()

    async def keep_alive(self) -> None:
        """Send a comment whenever nothing was sent for `HEARTBEAT_SECONDS`; never ends by itself."""
        while True:
            await asyncio.sleep(self._written + HEARTBEAT_SECONDS - self._clock())
            if self._clock() - self._written >= HEARTBEAT_SECONDS:
                await self.write(_HEARTBEAT)
