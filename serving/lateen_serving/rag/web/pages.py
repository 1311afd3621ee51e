# SPDX-License-Identifier: Apache-2.0
"""Asks web servers for pages: obeys robots.txt, keeps their pace, asks only for what has changed. Called by `walk.py`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.outbound.client import Client
from lateen_serving.outbound.wording import refused, shown
from lateen_serving.rag.web import links, robots
from lateen_serving.rag.web.robots import Robots

_MAX_TAG = 256
"""Characters of an entity tag; one that is cut fits nothing, so that its page is read again."""

PAGE_SECONDS = 60.0
"""Longest time of one page, all redirects and its body included."""


class TooLong(Exception):
    """The page is longer than it may be."""


class Forbidden(Exception):
    """robots.txt does not let us read the page."""


@dataclass(frozen=True)
class Known:
    """What is known of a page since it was read."""

    etag: str = ""
    modified: str = ""

    @property
    def version(self) -> str:
        """Changes with the content; empty where the server does not tell."""
        return self.etag or self.modified

    def conditions(self) -> dict[str, str]:
        """Headers by which the server sends the page only if it has changed."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in named.items() if value}


_UNKNOWN = Known()


@dataclass(frozen=True)
class Reply:
    """What a server sent."""

    address: str
    """Normal, after redirects."""

    known: Known
    content_type: str
    """In lower case, without parameters."""

    body: bytes | None
    """None: it is as it was known."""


@dataclass
class Pages:
    """One synchronization's way to the servers."""

    http: Client
    headers: Mapping[str, Mapping[str, str]]
    """What goes with every request to a site: credentials."""

    pause: float
    """Least seconds between two requests to one site."""

    largest: int
    """Bytes of a page."""

    _robots: "dict[str, asyncio.Task[Robots]]" = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)

    async def read(self, address: str, known: Known = _UNKNOWN) -> Reply:
        """The page at a normal address; raises LoadError, Forbidden and TooLong."""
        await self._permitted(address)
        reply = await retrying.insist(lambda: self._read(address, known, self.largest))
        if reply.address != address:
            await self._permitted(reply.address)
        return reply

    async def listing(self, address: str, limit: int) -> bytes:
        """The bytes of a sitemap, which robots.txt has no say in; raises LoadError and TooLong."""
        reply = await retrying.insist(lambda: self._read(address, _UNKNOWN, limit))
        return reply.body or b""

    async def close(self) -> None:
        """End what is still being asked."""
        for task in self._robots.values():
            task.cancel()
        await asyncio.gather(*self._robots.values(), return_exceptions=True)

    async def _permitted(self, address: str) -> None:
        parts = urlsplit(address)
        site = links.site(address)
        rules = await self._rules(site)
        if not rules.allows(f"{parts.path}?{parts.query}" if parts.query else parts.path):
            raise Forbidden(f"{site}/robots.txt forbids {parts.path}")

    async def _rules(self, site: str) -> Robots:
        if site not in self._robots:
            self._robots[site] = asyncio.create_task(retrying.insist(lambda: self._fetched_rules(site)))
        return await asyncio.shield(self._robots[site])

    async def _fetched_rules(self, site: str) -> Robots:
        """Those of the site: everything is allowed where it has none, nothing can be read while they can't be."""
        address = f"{site}/robots.txt"
        async with self._asked(address, {}) as reply:
            if 400 <= reply.status_code < 500 and reply.status_code != 429:
                return Robots()
            self.http.check(reply, address)
            body = bytearray()
            async for chunk in reply.aiter_raw():
                body += chunk
                if len(body) >= robots.MAX_BYTES:
                    break
        return robots.parse(bytes(body[: robots.MAX_BYTES]).decode("utf-8", "replace"))

    async def _read(self, address: str, known: Known, limit: int) -> Reply:
        async with self._asked(address, known.conditions()) as reply:
            final = links.normal(str(reply.url)) or address
            if reply.status_code == 304 and known.version:
                return Reply(final, known, "", None)
            self.http.check(reply, address)
            headers = reply.headers
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise refused(f"{shown(address)} is sent packed, although that was not asked for")
            body = bytearray()
            async for chunk in reply.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise TooLong(
                        f"more than {limit} bytes, which is what spec.parsing.maxDocumentBytes allows"
                    )
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            known = Known(headers.get("etag", "")[:_MAX_TAG], headers.get("last-modified", "")[:_MAX_TAG])
            return Reply(final, known, kind, bytes(body))

    @asynccontextmanager
    async def _asked(self, address: str, more: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """The reply, within `PAGE_SECONDS` from its turn; raises LoadError."""
        site = links.site(address)
        await self._turn(site)
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                async with self.http.get(address, {**self.headers.get(site, {}), **more}) as reply:
                    yield reply
        except TimeoutError:
            raise LoadError(
                f"{shown(address)} was not sent within {PAGE_SECONDS:g} s", code="SourceUnavailable"
            ) from None

    async def _turn(self, site: str) -> None:
        """Wait until the site may be asked again."""
        task = self._robots.get(site)
        own = task.result().delay if task is not None and task.done() and not task.exception() else 0.0
        now = asyncio.get_running_loop().time()
        at = max(now, self._next.get(site, 0.0))
        self._next[site] = at + max(self.pause, own)
        await asyncio.sleep(at - now)
