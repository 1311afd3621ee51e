# SPDX-License-Identifier: Apache-2.0
"""Reads one commit of a Git repository. Called by `sources.py`.

The repository is not trusted: nothing is checked out (no filters, no hooks, no links, no submodules); one commit
is fetched without history, its tree is listed, and the wanted blobs are copied into files named by their hash.
Only `https` to public addresses or allowed hosts is spoken, without redirects, with the address that was checked, or `file` below
a folder that the administrator allows. Credentials reach git through its environment, never its arguments or a file.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from lateen_api.rag_sources import GitSource
from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials, basic
from lateen_serving.rag import files
from lateen_serving.rag.globs import Selection
from lateen_serving.rag.protocol import SourceFailure
from lateen_serving.rag.subprocesses import Failed, TooMuch, run

FETCH_SECONDS = 300.0
READ_SECONDS = 120.0
MAX_PACK_BYTES = 2 * 2**30
"""Largest file git may write, and with it the largest repository snapshot."""

_MAX_PRINTED = 64 * 2**20
"""Bytes that git may print, besides the content of one large file."""

_BATCH_BYTES = 32 * 2**20
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_NOT_THERE = (
    "couldn't find remote ref", "not our ref", "not found", "does not exist", "not appear to be a git repository",
    "no such file or directory", "not a tree object", "not a valid object name",
)  # fmt: skip
_DENIED = (
    "could not read username",
    "could not read password",
    "authentication failed",
    "error: 401",
    "error: 403",
)
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_ANY_USER = "x-access-token"
"""Whom GitHub names for tokens; GitLab and Gitea take any name."""

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
    listing: files.Listing | None
    """None: it is the commit that was known."""

    blobs: Mapping[str, str] = field(default_factory=dict)
    """By path the hash of the content."""


@dataclass(frozen=True)
class Access:
    """What may be read, and as whom."""

    roots: Sequence[Path]
    """Repositories on the local disk must be below one of them."""

    allowed: Allowed
    """Private hosts that may be reached."""

    credentials: Credentials

    def header(self) -> str:
        """The header that goes to the server; empty without credentials."""
        get = self.credentials.get
        password = get("password") or get("token")
        if not password:
            return ""
        found = {"username": get("username") or _ANY_USER, "password": password}
        return basic(Credentials(values=found))["Authorization"]


async def checkout(source: GitSource, folder: Path, access: Access, largest: int, known: str = "") -> Tree:
    """Fetch `source.ref` into `folder` (created) unless it is the commit `known`; raises SourceFailure.

    Files of more than `largest` bytes are listed but not copied.
    """
    if known and source.ref == known:
        return Tree(known, None)
    pin = await _permitted(source.url, access)
    await asyncio.to_thread(folder.mkdir, parents=True)
    config = _CONFIG.format(
        scheme=urlsplit(source.url).scheme, pin=f"    curloptResolve = {pin}\n" if pin else ""
    )
    await asyncio.to_thread((folder / "config").write_text, config)
    repository = _Repository(folder, source, access)
    await repository.git("init", "--quiet", "--bare", "--template=", str(folder / "git"))
    if known and await repository.remote_commit() == known:
        return Tree(known, None)
    fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--end-of-options")
    await repository.git(*fetch, source.url, source.ref, limit=FETCH_SECONDS)
    commit = (await repository.git("rev-parse", "--verify", "FETCH_HEAD^{commit}")).decode().strip()
    return await repository.tree(commit, largest)


def uri(source: GitSource, path: str) -> str:
    """Address of a file for people: a link where the host's form is known, else the repository's URL and the path."""
    base = source.url.removesuffix(".git").rstrip("/")
    full = quote("/".join(filter(None, (source.path.strip("/"), path))))
    forms = {"github.com": "/blob/{}/{}", "gitlab.com": "/-/blob/{}/{}", "codeberg.org": "/src/{}/{}"}
    form = forms.get(urlsplit(base).hostname or "")
    return f"{base}#{full}" if form is None else base + form.format(quote(source.ref), full)


class _Repository:
    def __init__(self, folder: Path, source: GitSource, access: Access) -> None:
        self._folder, self._source, self._access = folder, source, access

    async def git(
        self, *arguments: str, limit: float = READ_SECONDS, given: bytes = b"", content: int = 0
    ) -> bytes:
        """What `git ARGUMENTS` prints, `content` bytes of it that of a file; raises SourceFailure."""
        command = ("git", "--git-dir", str(self._folder / "git"), *arguments)
        environment = _environment(self._folder) | _login(self._source.url, self._access.header())
        try:
            return await run(
                command,
                environment,
                given=given,
                limit=limit,
                file_bytes=MAX_PACK_BYTES,
                most=_MAX_PRINTED + content,
            )
        except TooMuch as error:
            raise SourceFailure("TooLarge", f"git {arguments[0]}: {error}") from error
        except Failed as error:
            raise _failure(error, self._access.credentials) from error

    async def remote_commit(self) -> str:
        """The commit that the ref stands for at the server; empty if it does not say."""
        ref = self._source.ref
        printed = await self.git("ls-remote", "--quiet", "--", self._source.url, ref, f"{ref}^{{}}")
        lines = [line.split("\t", 1) for line in printed.decode("utf-8", "replace").splitlines()]
        found = {line[1]: line[0] for line in lines if len(line) == 2 and _COMMIT.fullmatch(line[0])}
        # As `git fetch` looks for it; of an annotated tag the commit, not the tag.
        names = (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}")
        name = next((name for name in names if name in found), "")
        return found.get(f"{name}^{{}}", found.get(name, ""))

    async def tree(self, commit: str, largest: int) -> Tree:
        """The wanted files of `commit`, copied out of the repository."""
        source, root = self._source, self._source.path.strip("/")
        printed = await self.git(
            "ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", f"{commit}:{root}"
        )
        takes = Selection(source.include, source.exclude).takes
        wanted = [(path, blob, size) for path, blob, size in _entries(printed) if takes(path)]
        if len(wanted) > files.MAX_FILES or sum(size for _, _, size in wanted) > files.MAX_BYTES:
            raise SourceFailure(
                "TooLarge", f"more than {files.MAX_FILES} files or {files.MAX_BYTES >> 30} GiB"
            )
        blobs = self._folder / "blobs"
        await asyncio.to_thread(blobs.mkdir)
        for batch in _batches({blob: size for _, blob, size in wanted if size <= largest}):
            await self._copy(batch, blobs, largest)
        found = [files.File(path, size, str(blobs / blob)) for path, blob, size in wanted]
        return Tree(commit, files.Listing(found), {path: blob for path, blob, _ in wanted})

    async def _copy(self, names: Sequence[str], blobs: Path, largest: int) -> None:
        given = "".join(f"{name}\n" for name in names).encode()
        printed = await self.git("cat-file", "--batch", given=given, content=largest)
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


def _login(url: str, header: str) -> dict[str, str]:
    """Configuration by environment that sends `header` to the server of `url` and to no other."""
    if not header:
        return {}
    parts = urlsplit(url)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: {header}",
    }


def _failure(error: Failed, credentials: Credentials) -> SourceFailure:
    text = error.printed.lower()
    last = (error.printed.strip().splitlines() or [str(error)])[-1][:300]
    if any(sign in text for sign in _DENIED):
        return SourceFailure(
            "SourceUnauthorized", f"the server asks for other credentials; {credentials.hint}: {last}"
        )
    if any(sign in text for sign in _NOT_THERE):
        return SourceFailure("SourceNotFound", f"no such repository, ref or path (or it is private): {last}")
    return SourceFailure("SourceUnavailable", f"git: {last}")


async def _permitted(url: str, access: Access) -> str:
    """`HOST:PORT:ADDRESS` that git has to use for an https `url`; empty for an allowed `file` one."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc:
        path = await asyncio.to_thread(Path(unquote(parts.path)).resolve)
        if not any(path.is_relative_to(root.resolve()) for root in access.roots):
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
    return f"{host}:{port}:{await _address(host, port, access.allowed)}"


async def _address(host: str, port: int, allowed: Allowed) -> str:
    """An address of `host`; refused unless all of them are public or the host is allowed."""
    try:
        first, *_ = await addresses.resolve(host, port, allowed)
    except addresses.Unresolved as error:
        raise SourceFailure("SourceUnavailable", str(error)) from error
    except addresses.Forbidden as error:
        raise SourceFailure("SourceRefused", str(error)) from error
    return f"[{first}]" if first.version == 6 else str(first)
