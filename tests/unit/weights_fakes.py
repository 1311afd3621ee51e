# SPDX-License-Identifier: Apache-2.0
"""A web server in memory, for the tests of sources."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from lateen_serving.weights.folders import Folders
from lateen_serving.weights.quota import Quota, Room


def room(cache: Path, limit: int | None = None) -> Room:
    """Room for the entry `k` of a new cache."""
    places = Folders(cache)
    for folder in (places.entries, places.scratch, places.locks):
        folder.mkdir(parents=True, exist_ok=True)
    return Room(Quota(places, limit), "k", None)


class Body(httpx.AsyncByteStream):
    """Comes in pieces, as from the network."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._content), 1000):
            yield self._content[at : at + 1000]


@dataclass
class Server(httpx.AsyncBaseTransport):
    """Answers by path; keeps what it was asked."""

    pages: dict[str, bytes | Callable[[httpx.Request], httpx.Response]]
    asked: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=Body(answer.content))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        page = self.pages.get(request.url.path)
        if page is None:
            return httpx.Response(404)
        if callable(page):
            return page(request)
        headers = {"etag": hashlib.md5(page, usedforsecurity=False).hexdigest()}
        if request.headers.get("range") == "bytes=0-0" and page:
            return httpx.Response(
                206, headers={**headers, "content-range": f"bytes 0-0/{len(page)}"}, content=page[:1]
            )
        return httpx.Response(200, headers=headers, content=page)

    def paths(self) -> list[str]:
        """Paths of whole downloads, in order."""
        return [request.url.path for request in self.asked if "range" not in request.headers]
