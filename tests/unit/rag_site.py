# SPDX-License-Identifier: Apache-2.0
"""A web site in memory, as a source of documents."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lateen_api.rag_sources import Source
from lateen_serving.rag import sources
from lateen_serving.rag.protocol import Cursor, Loaded, SourceFailure, mark
from lateen_serving.rag.sources import Surroundings
from lateen_serving.settings import ServingSettings
from unit.weights_fakes import Server

HOST = "93.184.216.34"
SITE = f"https://{HOST}"
Answer = bytes | Callable[[httpx.Request], httpx.Response]


def page(text: str, kind: str = "text/html", packing: str = "identity") -> Answer:
    """A page with an entity tag, sent only to those who don't know it."""
    tag = hashlib.sha256(text.encode()).hexdigest()[:8]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("if-none-match") == tag:
            return httpx.Response(304)
        headers = {"content-type": kind, "etag": tag, "content-encoding": packing}
        return httpx.Response(200, headers=headers, text=text)

    return answer


def moved(to: str) -> Answer:
    """A redirect."""
    return lambda _: httpx.Response(302, headers={"location": to})


def failing(status: int) -> Answer:
    """An error."""
    return lambda _: httpx.Response(status)


class Site:
    """A server, and the synchronizations with it as far as sources go."""

    def __init__(self, folder: Path, **answers: Answer) -> None:
        self.server = Server({})
        self.folder, self.runs = folder, 0
        self.settings = ServingSettings(secrets=folder / "secrets")
        self.cursor = Cursor()

    async def load(self, **http: Any) -> Loaded:
        """One run of source `s`; the next one knows what it has read."""
        self.runs += 1
        self.server.asked.clear()
        around = Surroundings(
            self.settings, self.folder, self.folder / f"scratch{self.runs}", 2000, "team", self.server
        )
        source = Source.model_validate({"name": "s", "http": {"requestsPerSecond": 100} | http})
        loaded = await sources.load(source, around, self.cursor)
        known = {item.id: mark(item.uri, item.version) for item in loaded.documents}
        self.cursor = Cursor(loaded.state, known)
        return loaded

    async def failure(self, **http: Any) -> SourceFailure:
        """The failure of a run."""
        with pytest.raises(SourceFailure) as caught:
            await self.load(**http)
        return caught.value

    def paths(self) -> list[str]:
        """What was asked for, without robots.txt."""
        return [request.url.path for request in self.server.asked if request.url.path != "/robots.txt"]


def linked(folder: Path) -> Site:
    """A site with four pages that link to each other."""
    made = Site(folder)
    made.server.pages |= {
        "/": page('<a href="/a"><a href="/b.md"><a href="https://93.184.216.35/x"><a href="/logo.png">'),
        "/a": page('<a href="/c"><a href="/"><a href="/gone">'),
        "/b.md": page("# B", "text/markdown; charset=utf-8"),
        "/c": page('<a href="/d">'),
        "/d": page("d"),
        "/logo.png": page("binary", "image/png"),
    }
    return made


def ids(loaded: Loaded) -> list[str]:
    """Document names, sorted, without the host."""
    return sorted(document.id.removeprefix(f"s/{HOST}/") for document in loaded.documents)


def failures(loaded: Loaded) -> dict[str, str]:
    """Reason by document."""
    return {item.document.removeprefix(f"s/{HOST}/"): item.reason for item in loaded.failures}
