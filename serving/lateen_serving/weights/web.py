# SPDX-License-Identifier: Apache-2.0
"""Weights from a web server: an archive, one GGUF file, or the files that a `files.txt` lists beside itself.

Each line of the list is a relative name, or `SHA256  NAME` as `sha256sum` prints it.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpx

from lateen_serving.errors import LoadError
from lateen_serving.outbound import client, retrying
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.client import Client
from lateen_serving.outbound.credentials import Credentials, authorization
from lateen_serving.outbound.wording import shown
from lateen_serving.weights import remote
from lateen_serving.weights.quota import Room
from lateen_serving.weights.remote import Part, Survey
from lateen_serving.weights.selection import MOST_FILES, Kind, check_name, choose
from lateen_serving.weights.uris import WebSource

_LIST_BYTES = 2**20
_LINE = re.compile(r"(?:(?P<sha256>[0-9a-fA-F]{64}) [ *])?(?P<name>\S.*)")


@dataclass(frozen=True)
class Web:
    """A `remote.Remote`."""

    source: WebSource
    kind: Kind
    credentials: Credentials
    allowed: Allowed
    transport: httpx.AsyncBaseTransport | None = None
    """What connects; None: the network."""

    async def survey(self) -> Survey:
        """See `Remote`."""
        async with self._connect() as http:
            if self.source.kind == "list":
                return Survey(await self._listed(http))
            name = unquote(urlsplit(self.source.url).path.rpartition("/")[2])
            check_name(name, self._where)
            archive = self.source.kind == "archive"
            part = Part(f".{name}" if archive else name, self.source.url, archive=archive)
            return Survey((await self._probed(http, part),))

    async def fill(self, survey: Survey, folder: Path, room: Room) -> list[str]:
        """See `Remote`."""
        left_out: list[str] = []

        async def fetch(part: Part) -> None:
            if not remote.is_complete(part, folder):
                await retrying.insist(
                    lambda: remote.save(http.stream(part.address), part, folder, self._where, room)
                )
            if part.archive:
                left_out.extend(await remote.unpack(part, folder, self._where, room))

        async with self._connect() as http:
            await remote.each(survey.parts, fetch)
        return left_out

    async def _listed(self, http: Client) -> tuple[Part, ...]:
        parts = {part.name: part for part in self._lines(await retrying.insist(lambda: self._list(http)))}
        chosen = [parts[name] for name in choose(parts, self.kind, self._where)]
        probed: list[Part] = []

        async def probe(part: Part) -> None:
            probed.append(await self._probed(http, part))

        await remote.each(chosen, probe)
        return tuple(sorted(probed, key=lambda part: part.name))

    async def _list(self, http: Client) -> str:
        reply = await http.read(self.source.url, _LIST_BYTES)
        http.check(reply, self.source.url)
        return reply.text

    def _lines(self, text: str) -> Iterator[Part]:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > MOST_FILES:
            raise LoadError(f"{self._where} lists more than {MOST_FILES} files", code="SourceRefused")
        base = urlsplit(self.source.url)._replace(query="", fragment="").geturl()
        for line in lines:
            found = _LINE.fullmatch(line.rstrip())
            name = found["name"] if found else line
            check_name(name, self._where)
            checksum = found["sha256"].lower() if found and found["sha256"] else None
            yield Part(name, urljoin(base, quote(name)), sha256=checksum)

    async def _probed(self, http: Client, part: Part) -> Part:
        probe = await retrying.insist(lambda: http.probe(part.address))
        return replace(part, size=probe.size, version=probe.version)

    @property
    def _where(self) -> str:
        return shown(self.source.url)

    def _connect(self) -> AbstractAsyncContextManager[Client]:
        headers = authorization(self.credentials)
        return client.connect(self.credentials.hint, self.allowed, headers=headers, transport=self.transport)
