# SPDX-License-Identifier: Apache-2.0
"""Finds the pages of an `http` source, level by level, and keeps what has changed. Called by `sources.py`.

A page that can't be read now, or not by us, keeps what is indexed of it, and the links it had: that is a failure. One
that is too long keeps the links only. One that does not exist, or that robots.txt forbids, leaves the index; it is a
failure only if the spec names it.
"""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from lateen_api.index_build import DocumentFailure, DocumentFailureReason
from lateen_api.rag_sources import HttpSource
from lateen_serving.errors import LoadError
from lateen_serving.outbound import client, credentials
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.outbound.wording import shown
from lateen_serving.rag import files, sidecars
from lateen_serving.rag.bounded import each
from lateen_serving.rag.globs import Selection, matches
from lateen_serving.rag.protocol import Cursor, Document, Loaded, SourceFailure
from lateen_serving.rag.web import links, sitemaps
from lateen_serving.rag.web.pages import Forbidden, Known, Pages, Reply, TooLong

TOTAL_SECONDS = 3600.0
"""Longest time of one source."""

MOST_FAILURES = 10
"""Pages in a row that can't be read: then the source can't."""

_AT_ONCE = 4
_MAX_SITEMAPS = 100
_MAX_KNOWN = 100_000
"""Addresses that are remembered; of links beyond that nothing but their number is known."""

_TEXT = (
    "text/", "application/xhtml+xml", "application/xml", "application/json", "application/pdf", "message/rfc822",
    "application/vnd.openxmlformats-officedocument",
)  # fmt: skip
"""Beginnings of content types that can become text; of others no document is made where only a link led to them."""

_HTML = {"text/html", "application/xhtml+xml"}


@dataclass(frozen=True)
class Seen:
    """What is kept of a page until the next synchronization."""

    address: str
    """Of its document: after redirects, as long as they stay within the sites of the source."""

    etag: str = ""
    modified: str = ""
    links: Sequence[str] = ()
    document: bool = True
    """Whether it became a document."""

    unread: bool = False
    """Whether nothing is known of it, as it could not be read yet. Such a page is not kept: it is as good as new."""


@dataclass(frozen=True)
class Place:
    """Where a walk happens."""

    folder: Path
    """Pages are written here; created."""

    largest: int
    allowed: Allowed
    credentials: Credentials
    transport: httpx.AsyncBaseTransport | None = None
    """What connects; None: the network."""


async def load(name: str, source: HttpSource, place: Place, cursor: Cursor) -> Loaded:
    """The pages of the source called `name`; raises SourceFailure and LoadError."""
    await asyncio.to_thread(place.folder.mkdir, parents=True)
    async with client.connect(place.credentials.hint, place.allowed, transport=place.transport) as http:
        starts = [_address(url) for url in source.urls]
        listed = _address(source.sitemap) if source.sitemap else None
        sites = {links.site(address) for address in (*starts, *filter(None, [listed]))}
        headers = credentials.authorization(place.credentials)
        pages = Pages(http, dict.fromkeys(sites, headers), 1 / source.requests_per_second, place.largest)
        walk = _Walk(name, source, place, cursor, pages, sites)
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await walk.run(starts, listed)
        except TimeoutError as error:
            raise SourceFailure("SourceUnavailable", f"not read within {TOTAL_SECONDS:g} s") from error
        finally:
            await pages.close()


@dataclass
class _Walk:
    name: str
    source: HttpSource
    place: Place
    cursor: Cursor
    pages: Pages
    sites: set[str]
    documents: dict[str, Document] = field(default_factory=dict)
    failures: list[DocumentFailure] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    first: LoadError | None = None
    """The first failure of a page."""
    in_a_row: int = 0
    read: int = 0
    left_out: int = 0
    bytes: int = 0
    """Of the pages that were kept."""
    incomplete: bool = False
    """Whether a page could not be read of which nothing is known: what it leads to may still be there."""

    def __post_init__(self) -> None:
        self._before = unpacked(self.cursor.state)
        self._addresses: dict[str, str] = {}
        self._selection = Selection(self.source.include, self.source.exclude)

    async def run(self, starts: Sequence[str], sitemap: str | None) -> Loaded:
        level = list(dict.fromkeys([*starts, *(await self._listed(sitemap) if sitemap else ())]))
        named, placed = frozenset(starts), set(level)
        self._addresses.update(zip(level, level, strict=True))
        for steps_left in range(self.source.crawl.max_depth if self.source.crawl else 0, -1, -1):
            links_found = await self._level(self._within_bound(level), named, last=steps_left == 0)
            level = [link for link in dict.fromkeys(links_found) if link not in placed]
            placed.update(level)
        await self._fetch_pairs()
        if self.first is not None and not self.read:
            raise self.first
        found_now = list(self.documents.values())
        return Loaded(
            found_now,
            self.failures,
            incomplete=self.incomplete,
            state=packed(self.seen),
            left_out=self.left_out,
        )

    async def _level(self, level: Sequence[str], named: Collection[str], *, last: bool) -> list[str]:
        """Take these pages; their links, in the order of the pages."""
        found: dict[str, list[str]] = {}

        async def visit(address: str) -> None:
            found[address] = await self._visit(address, named=address in named, last=last)

        await each(level, visit, _AT_ONCE)
        return [link for address in level for link in found[address]]

    async def _fetch_pairs(self) -> None:
        """Read unchanged pages that have a sidecar file now, or are one now: both are needed."""
        addresses = {one.address: address for address, one in self.seen.items() if one.document}
        pairs = [item for item in self.documents.values() if sidecars.belongs(item.id, self.documents)]

        async def fetch(document: Document) -> None:
            del self.documents[document.id]
            address = addresses[document.uri]
            before = self.seen[address]
            try:
                await self._taken(address, await self.pages.read(address), named=True, last=True)
            except (LoadError, Forbidden, TooLong) as error:
                self._failed(address, before, error, named=True)

        await each([item for item in pairs if item.unchanged], fetch, _AT_ONCE)

    def _within_bound(self, level: Sequence[str]) -> list[str]:
        room = self.source.max_pages - len(self.seen)
        self.left_out += max(0, len(level) - room)
        return list(level[:room])

    def _own(self, found: Sequence[str], *, last: bool) -> list[str]:
        """Of the links those that may be followed, each of them one string however many pages have it."""
        own = []
        for link in found:
            if link not in self._addresses:
                if links.site(link) not in self.sites or self._is_excluded(link):
                    continue
                if len(self._addresses) >= _MAX_KNOWN:
                    self.left_out += 0 if last else 1
                    continue
                self._addresses[link] = link
            own.append(self._addresses[link])
        return own

    def _is_excluded(self, address: str) -> bool:
        return any(matches(links.path(address), pattern) for pattern in self.source.exclude)

    async def _listed(self, address: str) -> list[str]:
        """The pages in the sitemap and those it lists, of its own site; raises SourceFailure and LoadError."""
        waiting, known = [address], {address}
        found: dict[str, None] = {}
        while waiting and len(found) < self.source.max_pages:
            one = await self._sitemap(waiting.pop(0))
            own = [link for text in one.pages if (link := links.normal(text)) is not None]
            found |= dict.fromkeys(
                link
                for link in own
                if links.site(link) == links.site(address) and not self._is_excluded(link)
            )
            more = [link for text in one.sitemaps if (link := links.normal(text)) is not None]
            own = [link for link in more if links.site(link) == links.site(address)]
            new = [link for link in dict.fromkeys(own) if link not in known]
            room = _MAX_SITEMAPS - len(known)
            self.left_out += len(new[room:])
            known.update(new[:room])
            waiting += new[:room]
        self.left_out += len(waiting)
        return list(found)

    async def _sitemap(self, address: str) -> sitemaps.Sitemap:
        try:
            data = await self.pages.listing(address, sitemaps.MAX_BYTES)
            return await asyncio.to_thread(sitemaps.parse, data)
        except sitemaps.Malformed as error:
            raise SourceFailure("SourceRefused", f"sitemap {address}: {error}") from error
        except TooLong as error:
            raise SourceFailure("TooLarge", f"sitemap {address}: {error}") from error

    async def _visit(self, address: str, *, named: bool, last: bool) -> list[str]:
        """Take the page at `address`; the links to follow from it, none if it is the `last` level."""
        before = self._before.get(address)
        try:
            reply = await self.pages.read(address, self._known(before))
            if reply.body is None and before is not None and self._called(address, reply) != before.address:
                reply = await self.pages.read(address)  # it leads elsewhere now
        except (LoadError, Forbidden, TooLong) as error:
            self._failed(address, before, error, named=named)
            # Nothing tells where a page led that is not known: its document may have another name.
            self.incomplete = self.incomplete or self.seen[address].unread
            return self._own(self.seen[address].links, last=False) if not last else []
        self.in_a_row = 0
        self.read += 1
        if reply.body is None:
            assert before is not None
            self._same(address, before)
            return self._own(before.links, last=False) if not last else []
        return await self._taken(address, reply, named=named, last=last)

    def _known(self, before: Seen | None) -> Known:
        """What the server is asked to compare with: only while what is indexed is of that version."""
        if before is None:
            return Known()
        known = Known(before.etag, before.modified)
        key = self._key(before.address)
        is_indexed = not before.document or self.cursor.knows(key, before.address, known.version)
        return known if is_indexed else Known()

    def _same(self, address: str, before: Seen) -> None:
        self.seen[address] = before
        if before.document:
            key, name = self._key(before.address), links.document(before.address)
            version = before.etag or before.modified
            self._add(
                Document(key, self.name, name, before.address, 0, _unread, version=version, unchanged=True)
            )

    async def _taken(self, address: str, reply: Reply, *, named: bool, last: bool) -> list[str]:
        assert reply.body is not None
        final, about = self._called(address, reply), links.Links()
        if reply.content_type in _HTML:
            about = await asyncio.to_thread(links.read, reply.body.decode("utf-8", "replace"), reply.address)
        wanted = self._selection.takes(links.path(final)) and about.indexed
        is_text = named or reply.content_type.startswith(_TEXT) or not reply.content_type
        own = self._own(about.links, last=last) if self.source.crawl else []
        is_document = wanted and is_text
        self.seen[address] = Seen(final, reply.known.etag, reply.known.modified, own, is_document)
        if is_document:
            await self._keep(final, reply)
        return own if not last else []

    def _called(self, address: str, reply: Reply) -> str:
        """What the page at `address` is called: a foreign site's address may be signed, and new each time."""
        return reply.address if links.site(reply.address) in self.sites else address

    async def _keep(self, address: str, reply: Reply) -> None:
        assert reply.body is not None
        self.bytes += len(reply.body)
        if self.bytes > files.MAX_BYTES:
            raise SourceFailure("TooLarge", f"the pages have more than {files.MAX_BYTES >> 30} GiB")
        path = self.place.folder / hashlib.sha256(address.encode()).hexdigest()
        await asyncio.to_thread(path.write_bytes, reply.body)
        name = links.document(address)
        item = files.File(name, len(reply.body), str(path))
        read, known = partial(files.read, item), reply.known
        key, updated = self._key(address), moment(known.modified)
        self._add(
            Document(
                key,
                self.name,
                name,
                address,
                item.size,
                read,
                version=known.version,
                updated_at=updated,
            )
        )

    def _add(self, document: Document) -> None:
        self.documents.setdefault(document.id, document)  # several addresses may lead to one page

    def _key(self, address: str) -> str:
        return f"{self.name}/{links.document(address)}"

    def _failed(self, address: str, before: Seen | None, error: Exception, *, named: bool) -> None:
        key = self._key(before.address if before else address)
        if before is not None and _stays(error):
            self.seen[address] = before
        elif before is not None and isinstance(error, TooLong):
            self.seen[address] = Seen(address, links=before.links, document=False)
        else:
            self.seen[address] = Seen(address, document=False, unread=_stays(error))
        if isinstance(error, LoadError):
            self.first = self.first or error
            self.in_a_row += 1 if error.code == "SourceUnavailable" else 0
            if self.in_a_row >= MOST_FAILURES:
                raise SourceFailure(
                    "SourceUnavailable", f"{MOST_FAILURES} pages in a row can't be read: {error.message}"
                )
        if _stays(error) or named or isinstance(error, TooLong):
            reason = _reason(error)
            self.failures.append(DocumentFailure(document=key, reason=reason, message=str(error)[:512]))


def _address(url: str) -> str:
    found = links.normal(url)
    if found is None:
        raise SourceFailure("SourceRefused", f"{shown(url)} is not the address of a page")
    return found


def _stays(error: Exception) -> bool:
    """Whether the page may still be there: only 404 and 410 say that it is not."""
    return isinstance(error, LoadError) and error.code != "SourceNotFound"


def _reason(error: Exception) -> DocumentFailureReason:
    if isinstance(error, TooLong):
        return "TooLarge"
    if isinstance(error, LoadError):
        return "NotFound" if error.code == "SourceNotFound" else "Unreadable"
    return "Refused"


async def _unread() -> bytes:
    raise OSError("it was not downloaded: it has not changed")


def moment(date: str) -> str:
    """An HTTP date in RFC 3339, UTC; empty for anything else."""
    try:
        return parsedate_to_datetime(date).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # the latter: in UTC it is beyond the year 9999
        return ""


def packed(seen: Mapping[str, Seen]) -> dict[str, Any]:
    """What is kept of pages, as JSON in which no address occurs twice."""
    numbers: dict[str, int] = {}

    def number(address: str) -> int:
        return numbers.setdefault(address, len(numbers))

    pages = [
        [number(url), number(one.address), one.etag, one.modified, [*map(number, one.links)], one.document]
        for url, one in seen.items()
        if not one.unread
    ]
    return {"pages": pages, "addresses": list(numbers)}


def unpacked(state: Mapping[str, Any]) -> dict[str, Seen]:
    """What `packed` made JSON of."""
    names = state.get("addresses", [])
    return {
        names[url]: Seen(names[address], etag, modified, [names[link] for link in found], document)
        for url, address, etag, modified, found, document in state.get("pages", [])
    }
