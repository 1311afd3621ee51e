# SPDX-License-Identifier: Apache-2.0
"""Reads one commit of a Git repository. Called by `sources.py`.

The repository is not trusted: nothing is checked out (no filters, no hooks, no links, no submodules); one commit
is fetched without history, its tree is listed, and the wanted blobs are copied into files named by their hash.
Only `https` to public addresses or allowed hosts is spoken, without redirects, with the address that was checked, or `file` below
a folder that the administrator allows.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from lateen_api.rag_sources import GitSource
from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.rag import files
from lateen_serving.rag.globs import Selection
from lateen_serving.rag.protocol import SourceFailure
from lateen_serving.rag.subprocesses import Failed, run

FETCH_SECONDS = 300.0
READ_SECONDS = 120.0
MAX_PACK_BYTES = 2 * 2**30
"""Largest file git may write, and with it the largest repository snapshot."""

_BATCH_BYTES = 32 * 2**20
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_NOT_THERE = (
    "couldn't find remote ref", "not our ref", "not found", "does not exist", "not appear to be a git repository",
    "could not read username", "no such file or directory", "not a tree object", "not a valid object name",
)  # fmt: skip
_CONFIG = """[core]
    hooksPath = /dev/null
    fsmonitor = false
[protocol]
    allow = never
[protocol "{scheme}"]
    allow = always
[http]
    followRedirects = false
    sslVerify = true
    lowSpeedLimit = 1000
    lowSpeedTime = 30
{pin}[credential]
    helper =
[safe]
    directory = *
[fetch]
    recurseSubmodules = false
[gc]
    auto = 0
"""


@dataclass(frozen=True)
class Tree:
    """The wanted files of one commit."""

    commit: str
    listing: files.Listing


async def checkout(
    source: GitSource, folder: Path, *, roots: Sequence[Path], allowed: Allowed, largest: int
) -> Tree:
    """Fetch `source.ref` into `folder` (created); raises SourceFailure.

    Repositories on the local disk must be below one of `roots`, private hosts must be `allowed`. Files of more than `largest` bytes are listed but
    not copied.
    """
    pin = await _permitted(source.url, roots, allowed)
    await asyncio.to_thread(folder.mkdir, parents=True)
    config = _CONFIG.format(
        scheme=urlsplit(source.url).scheme, pin=f"    curloptResolve = {pin}\n" if pin else ""
    )
    await asyncio.to_thread((folder / "config").write_text, config)
    repository = _Repository(folder)
    await repository.git("init", "--quiet", "--bare", "--template=", str(folder / "git"))
    fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--end-of-options")
    await repository.git(*fetch, source.url, source.ref, limit=FETCH_SECONDS)
    commit = (await repository.git("rev-parse", "--verify", "FETCH_HEAD^{commit}")).decode().strip()
    return Tree(commit, await repository.listing(commit, source, largest))


def uri(source: GitSource, path: str) -> str:
    """Address of a file for people: a link where the host's form is known, else the repository's URL and the path."""
    base = source.url.removesuffix(".git").rstrip("/")
    full = quote("/".join(filter(None, (source.path.strip("/"), path))))
    forms = {"github.com": "/blob/{}/{}", "gitlab.com": "/-/blob/{}/{}", "codeberg.org": "/src/{}/{}"}
    form = forms.get(urlsplit(base).hostname or "")
    return f"{base}#{full}" if form is None else base + form.format(quote(source.ref), full)


class _Repository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def git(self, *arguments: str, limit: float = READ_SECONDS, given: bytes = b"") -> bytes:
        """What `git ARGUMENTS` prints; raises SourceFailure."""
        command = ("git", "--git-dir", str(self._folder / "git"), *arguments)
        try:
            return await run(
                command, _environment(self._folder), given=given, limit=limit, file_bytes=MAX_PACK_BYTES
            )
        except Failed as error:
            raise _failure(error) from error

    async def listing(self, commit: str, source: GitSource, largest: int) -> files.Listing:
        """The wanted files of `commit`, copied out of the repository."""
        root = source.path.strip("/")
        tree = f"{commit}:{root}"
        entries = list(
            _entries(await self.git("ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", tree))
        )
        takes = Selection(source.include, source.exclude).takes
        wanted = [(path, blob, size) for path, blob, size in entries if takes(path)]
        if len(wanted) > files.MAX_FILES or sum(size for _, _, size in wanted) > files.MAX_BYTES:
            raise SourceFailure(
                "TooLarge", f"more than {files.MAX_FILES} files or {files.MAX_BYTES >> 30} GiB"
            )
        blobs = self._folder / "blobs"
        await asyncio.to_thread(blobs.mkdir)
        for batch in _batches({blob: size for _, blob, size in wanted if size <= largest}):
            await self._copy(batch, blobs)
        return files.Listing([files.File(path, size, blobs / blob) for path, blob, size in wanted])

    async def _copy(self, names: Sequence[str], blobs: Path) -> None:
        printed = await self.git("cat-file", "--batch", given="".join(f"{name}\n" for name in names).encode())
        await asyncio.to_thread(_write, printed, blobs)


def _entries(printed: bytes) -> Iterator[tuple[str, str, int]]:
    """Path, hash and size of the regular files in what `git ls-tree -r -l -z` prints; links and submodules left out."""
    for record in filter(None, printed.split(b"\0")):
        about, _, path = record.partition(b"\t")
        mode, kind, blob, size = about.split()
        text = path.decode("utf-8", "replace")
        if kind == b"blob" and mode in (b"100644", b"100755") and text.isprintable():
            yield text, blob.decode(), int(size)


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    room = _BATCH_BYTES
    for name, size in sizes.items():
        if batch and size > room:
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(name)
        room -= size
    if batch:
        yield batch


def _write(printed: bytes, blobs: Path) -> None:
    """Write the blobs in what `git cat-file --batch` prints: `HASH blob SIZE`, newline, content, newline."""
    at = 0
    while at < len(printed):
        end = printed.index(b"\n", at)
        name, _, size = printed[at:end].split()
        at = end + 1 + int(size)
        (blobs / name.decode()).write_bytes(printed[end + 1 : at])
        at += 1


def _environment(folder: Path) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "GIT_SSL_CAINFO", "SSL_CERT_FILE") if name in os.environ
    }
    return kept | {
        "HOME": str(folder),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(folder / "config"),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


def _failure(error: Failed) -> SourceFailure:
    text = error.printed.lower()
    last = (error.printed.strip().splitlines() or [str(error)])[-1][:300]
    if any(sign in text for sign in _NOT_THERE):
        return SourceFailure("SourceNotFound", f"no such repository, ref or path (or it is private): {last}")
    return SourceFailure("SourceUnavailable", f"git: {last}")


async def _permitted(url: str, roots: Sequence[Path], allowed: Allowed) -> str:
    """`HOST:PORT:ADDRESS` that git has to use for an https `url`; empty for an allowed `file` one."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc:
        path = await asyncio.to_thread(Path(unquote(parts.path)).resolve)
        if not any(path.is_relative_to(root.resolve()) for root in roots):
            raise SourceFailure("SourceRefused", "file:/// is not below a folder the administrator allows")
        return ""
    if (
        parts.scheme != "https"
        or not _HOST.fullmatch(parts.hostname or "")
        or parts.username
        or parts.password
    ):
        raise SourceFailure("SourceRefused", "only https:// URLs without user name and password are read")
    host, port = parts.hostname or "", parts.port or 443
    return f"{host}:{port}:{await _address(host, port, allowed)}"


async def _address(host: str, port: int, allowed: Allowed) -> str:
    """An address of `host`; refused unless all of them are public or the host is allowed."""
    try:
        first, *_ = await addresses.resolve(host, port, allowed)
    except addresses.Unresolved as error:
        raise SourceFailure("SourceUnavailable", str(error)) from error
    except addresses.Forbidden as error:
        raise SourceFailure("SourceRefused", str(error)) from error
    return f"[{first}]" if first.version == 6 else str(first)
