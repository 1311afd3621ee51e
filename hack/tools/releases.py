# SPDX-License-Identifier: Apache-2.0
"""Official release files over HTTPS: bounded in size, never used unless the published checksum agrees."""

import hashlib
import http.client
import re
import socket
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

from catalogue import Release, Tool

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
CHECKSUMS_LIMIT = 1 << 20
PROGRAM_LIMIT = 512 << 20
CHUNK = 1 << 20


class Unavailable(Exception):
    """A way that cannot give the tool; the text says why, and the next way is tried."""


class Opener(Protocol):
    """The seam to the network."""

    def open(self, url: str) -> IO[bytes]:
        """The body at `url`; HTTPError where the host refuses, another OSError where none answers."""
        ...


class _QuickConnection(http.client.HTTPSConnection):
    """Gives up soon on a host that does not answer, but lets a slow download run."""

    def connect(self) -> None:
        self._resolve()
        self.timeout = CONNECT_SECONDS
        super().connect()
        self.sock.settimeout(READ_SECONDS)

    def _resolve(self) -> None:
        """Look the host up beside this thread: the system's resolver has no timeout of its own."""
        answers: list[object] = []

        def look_up() -> None:
            try:
                answers.append(socket.getaddrinfo(self.host, self.port))
            except OSError as error:
                answers.append(error)

        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(CONNECT_SECONDS)
        if not answers:
            raise TimeoutError(f"no address for {self.host} within {CONNECT_SECONDS:.0f} s")
        if isinstance(answers[0], OSError):
            raise answers[0]


class _QuickHandler(urllib.request.HTTPSHandler):
    """Opens HTTPS addresses by the quick connection."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Called by urllib for every HTTPS address, redirections included."""
        return self.do_open(_QuickConnection, req)


class HttpsOpener:
    """The real network, through the environment's proxy settings if there are any."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(_QuickHandler())

    def open(self, url: str) -> IO[bytes]:
        """The body at `url`, redirections followed."""
        response: IO[bytes] = self._opener.open(url)
        return response


@dataclass
class Releases:
    """Fetches published programs, and asks a host that did not answer no second time in this run."""

    opener: Opener = field(default_factory=HttpsOpener)
    closed: dict[str, str] = field(default_factory=dict)

    def fetch(self, tool: Tool, into: Path) -> Path:
        """The tool's program in the folder `into`, verified; Unavailable says why not."""
        release = tool.release()
        if release is None:
            raise Unavailable("nothing is published for this platform")
        checksums = into / f"{tool.name}.checksums"
        self._download(release.checksum_url, checksums, CHECKSUMS_LIMIT)
        file_name = release.url.rpartition("/")[2]
        expected = published_checksum(checksums.read_text(errors="replace"), file_name)
        file = into / f"{tool.name}.download"
        actual = self._download(release.url, file, PROGRAM_LIMIT)
        if actual != expected:
            raise Unavailable(f"{release.url} has SHA-256 {actual}, published is {expected}: not used")
        return extract(release, file, into / tool.name)

    def _download(self, url: str, to: Path, limit: int) -> str:
        """Write the body to `to` and return its SHA-256."""
        host = urlsplit(url).netloc
        if host in self.closed:
            raise Unavailable(f"{host} did not answer before: {self.closed[host]}")
        try:
            body = self.opener.open(url)
        except urllib.error.HTTPError as error:
            raise Unavailable(f"{url} answers {error.code} {error.reason}") from error
        except OSError as error:
            self.closed[host] = str(getattr(error, "reason", error))
            raise Unavailable(f"{host} does not answer: {self.closed[host]}") from error
        try:
            with body:
                return _save(body, to, limit)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{url} broke off: {error}") from error


def _save(body: IO[bytes], to: Path, limit: int) -> str:
    digest = hashlib.sha256()
    size = 0
    with to.open("wb") as file:
        while chunk := body.read(CHUNK):
            size += len(chunk)
            if size > limit:
                raise Unavailable(f"the file is larger than {limit >> 20} MiB: not used")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def published_checksum(text: str, file_name: str) -> str:
    """The SHA-256 of `file_name` in a published list: lines of `hash  name`, or one bare hash."""
    for line in text.splitlines():
        words = line.split()
        named_here = len(words) == 1 or (len(words) == 2 and words[1].lstrip("*") == file_name)
        if named_here and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
            return words[0].lower()
    raise Unavailable(f"the published checksums do not name {file_name}")


def extract(release: Release, file: Path, to: Path) -> Path:
    """The program out of the verified file; only the one named member is ever written."""
    if release.member is None:
        return file.rename(to)
    try:
        if release.url.endswith(".zip"):
            with zipfile.ZipFile(file) as archive, archive.open(release.member) as source:
                _save(source, to, PROGRAM_LIMIT)
                return to
        with tarfile.open(file) as tar:
            member = tar.extractfile(release.member)
            if member is None:
                raise KeyError(f"{release.member} is no file")
            with member:
                _save(member, to, PROGRAM_LIMIT)
                return to
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise Unavailable(f"{release.url} does not hold {release.member}: {error}") from error
    finally:
        file.unlink(missing_ok=True)
