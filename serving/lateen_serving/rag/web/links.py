# SPDX-License-Identifier: Apache-2.0
"""Addresses of pages: normal forms, sites, names of documents, and the links in HTML. Pure; called by `walk.py`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import lxml.etree
import lxml.html

from lateen_serving.rag.web.robots import AGENT

MAX_ADDRESS = 2048
MAX_LINKS = 1000
"""Of one page."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Links:
    """What a page says to those who follow links."""

    links: tuple[str, ...] = ()
    """Absolute and normal; none where the page asks not to follow them."""

    indexed: bool = True
    """Whether the page may be indexed."""


def normal(address: str) -> str | None:
    """The one form of an http(s) address: lower-case host, no default port, no fragment; None for anything else."""
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    if (
        parts.scheme not in _PORTS
        or not host
        or parts.username
        or parts.password
        or len(address) > MAX_ADDRESS
    ):
        return None
    if not address.strip().isprintable() or any(letter.isspace() for letter in address.strip()):
        return None
    shown = f"[{host}]" if ":" in host else host
    place = shown if port in {None, _PORTS[parts.scheme]} else f"{shown}:{port}"
    return urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))


def site(address: str) -> str:
    """Scheme, host and port of a normal address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def path(address: str) -> str:
    """What include and exclude patterns see: the path without the first `/`."""
    return unquote(urlsplit(address).path).removeprefix("/")


def document(address: str) -> str:
    """The page's name as a document: host, path and query; a folder's page is its `index.html`."""
    parts = urlsplit(address)
    name = f"{parts.netloc}{unquote(parts.path)}"
    name += "index.html" if name.endswith("/") else ""
    return "".join(
        letter for letter in name + (f"?{parts.query}" if parts.query else "") if letter.isprintable()
    )


def read(html: str, address: str) -> Links:
    """The links of the page at `address`."""
    # The parser of the standard library needs hours for some pages, and a thread can't be ended.
    # "Huge": links are found 2048 elements deep, not 256; the page itself is bounded.
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        page = lxml.html.document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.ParserError, lxml.etree.XMLSyntaxError):  # it has no content
        return Links()
    said = _Said(address)
    for element in page.iter("a", "base", "meta"):
        said.take(element)
    if not said.follow:
        return Links((), said.indexed)
    return Links(tuple(_distinct(said.links))[:MAX_LINKS], said.indexed)


def _distinct(addresses: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(found for found in map(normal, addresses) if found is not None)


class _Said:
    """What the elements of one page say, in their order."""

    def __init__(self, address: str) -> None:
        self._base = address
        self.links: list[str] = []
        self.indexed = self.follow = True

    def take(self, element: Any) -> None:
        tag, found = element.tag, element.attrib
        if tag == "a" and "href" in found and "nofollow" not in found.get("rel", "").lower().split():
            self._link(found["href"])
        elif tag == "base" and "href" in found:
            self._base = self._joined(found["href"]) or self._base
        elif tag == "meta" and found.get("name", "").lower() in {"robots", AGENT}:
            words = {word.strip() for word in found.get("content", "").lower().split(",")}
            self.indexed = self.indexed and not words & {"noindex", "none"}
            self.follow = self.follow and not words & {"nofollow", "none"}

    def _link(self, href: str) -> None:
        joined = self._joined(href)
        if joined and len(self.links) < 10 * MAX_LINKS:
            self.links.append(joined)

    def _joined(self, href: str) -> str | None:
        if len(href) > MAX_ADDRESS:
            return None
        try:
            return urljoin(self._base, href.strip())
        except ValueError:
            return None
