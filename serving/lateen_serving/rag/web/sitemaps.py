# SPDX-License-Identifier: Apache-2.0
"""Reads sitemaps (sitemaps.org). Pure; called by `walk.py`."""

import zlib
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_BYTES = 20 * 2**20
"""Of one sitemap, as it comes and unpacked."""

MAX_ADDRESSES = 50_000
_MAX_ADDRESS = 2048
_GZIP = b"\x1f\x8b"


class Malformed(Exception):
    """It is no sitemap."""


@dataclass
class Sitemap:
    """What a sitemap lists."""

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def parse(data: bytes) -> Sitemap:
    """The addresses in an XML sitemap or sitemap index, also packed by gzip; raises Malformed."""
    reading = _Reading()
    try:
        reading.parser.Parse(_unpacked(data), True)
    except (expat.ExpatError, zlib.error, LookupError, ValueError) as error:  # the latter: of its encoding
        raise Malformed(f"it is not an XML sitemap: {error}") from error
    if not reading.is_sitemap:
        raise Malformed("it is neither a urlset nor a sitemapindex")
    return reading.found


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(wbits=31)
    plain = unpacking.decompress(data, MAX_BYTES)
    if unpacking.unconsumed_tail:
        raise Malformed(f"it unpacks to more than {MAX_BYTES} bytes")
    return plain


class _Reading:
    """One parse; entities are refused, so that no small file becomes a large one."""

    def __init__(self) -> None:
        self.found = Sitemap()
        self.is_sitemap = False
        self._path: list[str] = []
        self._text = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._entity

    def _start(self, name: str, _: dict[str, str]) -> None:
        self._path.append(name.rpartition(" ")[2])
        if len(self._path) == 1:
            self.is_sitemap = self._path[0] in {"urlset", "sitemapindex"}
        if len(self._path) > 16:
            raise Malformed("its elements are nested too deeply")
        self._text = ""

    def _end(self, _: str) -> None:
        place = {
            ("urlset", "url", "loc"): self.found.pages,
            ("sitemapindex", "sitemap", "loc"): self.found.sitemaps,
        }
        listed = place.get(tuple(self._path))  # type: ignore[arg-type]
        address = self._text.strip()
        if listed is not None and address and len(address) <= _MAX_ADDRESS:
            listed.append(address)
        if len(self.found.pages) > MAX_ADDRESSES or len(self.found.sitemaps) > MAX_ADDRESSES:
            raise Malformed(f"it lists more than {MAX_ADDRESSES} addresses")
        self._path.pop()

    def _characters(self, text: str) -> None:
        if len(self._text) <= _MAX_ADDRESS:
            self._text += text

    def _entity(self, *_: object) -> None:
        raise Malformed("it declares entities")
