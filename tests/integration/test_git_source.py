# SPDX-License-Identifier: Apache-2.0
"""Reading Git repositories with the real git; needs no stack."""

import base64
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lateen_api.rag_sources import Source
from lateen_serving.rag import git, sources, subprocesses
from lateen_serving.rag.protocol import Cursor, Loaded, SourceFailure, mark
from lateen_serving.rag.sources import NOTHING, Surroundings
from lateen_serving.settings import ServingSettings
from stack import git_server
from stack.git_server import GitServer
from stack.repositories import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two commits; the first is tagged `v1`."""
    made = Repository.create(tmp_path / "roots" / "handbook")
    made.commit({"docs/a.md": "first", "docs/b.txt": "b", "README.md": "readme", "big.md": "x" * 5000})
    run(made, "tag", "v1")
    made.commit({"docs/a.md": "second"})
    return made


def run(repository: Repository, *arguments: str) -> str:
    """What git prints."""
    command = ["git", "-C", str(repository.folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def load(
    repository: Repository, folder: str = "scratch", cursor: Cursor = NOTHING, **more: Any
) -> Loaded:
    """The documents of the repository as source `s`."""
    base = repository.folder.parents[1]
    settings = ServingSettings(
        file_roots=[base / "roots"], secrets=base / "secrets", source_hosts=["127.0.0.1"]
    )
    around = Surroundings(settings, base, base / folder, 4096, "team")
    return await sources.load(
        Source.model_validate({"name": "s", "git": {"url": repository.url} | more}), around, cursor
    )


def indexed(loaded: Loaded) -> Cursor:
    """The cursor when all that was loaded has been indexed."""
    return Cursor(
        loaded.state, {item.id: mark(item.uri, item.version) for item in loaded.documents}, whole=True
    )


@pytest.fixture
def server(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    """The repository behind https and a login."""
    with git_server.serving(tmp_path / "roots", tmp_path / "pki") as running:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(running.authority))
        yield running


def secret(folder: Path, **values: str) -> dict[str, Any]:
    """The Secret `login` of the namespace, and the reference to it."""
    place = folder / "secrets" / "team" / "login"
    place.mkdir(parents=True)
    for key, value in values.items():
        (place / key).write_text(value)
    return {"secretRef": {"name": "login"}}


async def texts(loaded: Loaded) -> dict[str, str]:
    """Content by path."""
    return {document.path: (await document.read()).decode() for document in loaded.documents}


async def test_branch_tag_and_commit(repository: Repository) -> None:
    """A ref of any kind is read, and the commit it stood for is known."""
    first, second = run(repository, "rev-parse", "v1"), run(repository, "rev-parse", "HEAD")
    for number, (ref, commit, text) in enumerate(
        [
            ("HEAD", second, "second"),
            ("main", second, "second"),
            ("v1", first, "first"),
            (first, first, "first"),
        ]
    ):
        loaded = await load(repository, f"scratch{number}", ref=ref, path="docs")
        assert loaded.commit == commit
        assert await texts(loaded) == {"a.md": text, "b.txt": "b"}


async def test_patterns_and_size(repository: Repository) -> None:
    """Patterns select below the path; of files that are too large only the size is taken."""
    loaded = await load(repository, include=["*.md"], exclude=["README.md"])
    assert [(document.id, document.size) for document in loaded.documents] == [("s/big.md", 5000)]
    with pytest.raises(OSError, match="No such file"):
        await loaded.documents[0].read()


async def test_links_and_submodules_are_left_out(repository: Repository) -> None:
    """Only regular files are documents: a link to a secret of the host is none."""
    (repository.folder / "link.md").symlink_to("/etc/hostname")
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module.md")
    repository.commit({"c.md": "c"})
    assert "link.md" not in await texts(await load(repository, include=["*.md"], exclude=["big.md"]))


@pytest.mark.parametrize(
    "more", [{"ref": "nothing"}, {"ref": "1" * 40}, {"path": "missing"}, {"path": "README.md"}]
)
async def test_what_is_not_in_the_repository(repository: Repository, more: dict[str, Any]) -> None:
    """A missing ref or folder is SourceNotFound."""
    with pytest.raises(SourceFailure) as failure:
        await load(repository, **more)
    assert failure.value.reason == "SourceNotFound"


async def test_hooks_and_filters_of_a_repository_do_not_run(repository: Repository, tmp_path: Path) -> None:
    """Nothing that a repository brings is executed."""
    mark = tmp_path / "ran"
    hook = repository.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    run(repository, "config", "filter.f.smudge", f"touch {mark}")
    run(repository, "config", "uploadpack.packObjectsHook", f"touch {mark}; false")
    repository.commit({".gitattributes": "*.md filter=f"})
    await load(repository)
    assert not mark.exists()


async def test_a_snapshot_beyond_the_bound_is_refused(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git can't write more than the bound; the source fails and can be read again later."""
    monkeypatch.setattr(git, "MAX_PACK_BYTES", 4096)
    (repository.folder / "noise.bin").write_bytes(bytes(hash(str(number)) & 255 for number in range(100_000)))
    repository.commit({})
    with pytest.raises(SourceFailure) as failure:
        await load(repository)
    assert failure.value.reason == "SourceUnavailable"


async def test_a_silent_server_is_given_up(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that does not end in time is ended with all its children."""
    monkeypatch.setattr(git, "FETCH_SECONDS", 0.0)
    with pytest.raises(SourceFailure) as failure:
        await load(repository)
    assert failure.value.reason == "SourceUnavailable"


async def test_an_unchanged_commit_is_no_work(repository: Repository, server: GitServer) -> None:
    """The server is asked once which commit it has; of a new commit only the changed files are new."""
    run(repository, "tag", "--annotate", "v2", "--message=2")
    for number, ref in enumerate(["HEAD", "main", "v1", "v2", run(repository, "rev-parse", "HEAD")]):
        cursor = indexed(await load(repository, f"first{number}", ref=ref))
        again = await load(repository, f"again{number}", cursor, ref=ref)
        assert (again.unchanged, again.documents, again.commit) == (True, [], cursor.state["commit"]), ref
    cursor = indexed(await load(repository, "before", include=["**"]))
    repository.commit({"docs/a.md": "third"})
    loaded = await load(repository, "after", cursor, include=["**"])
    assert {item.path for item in loaded.documents if not item.unchanged} == {"docs/a.md"}
    partly = await load(repository, "partly", Cursor(loaded.state, {}, whole=False))
    assert not any(item.unchanged for item in partly.documents)


@pytest.mark.parametrize("keys", [("username", "password"), ("username", "token")])
async def test_a_private_repository_is_read_with_a_secret(
    repository: Repository,
    server: GitServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: tuple[str, str],
) -> None:
    """User and password reach git through its environment alone: not its arguments, not a file."""
    commands = []

    async def watched(command: Sequence[str], *arguments: Any, **more: Any) -> bytes:
        commands.append(" ".join(command))
        return await subprocesses.run(command, *arguments, **more)

    monkeypatch.setattr(git, "run", watched)
    reference = secret(tmp_path, **dict(zip(keys, git_server.LOGIN, strict=True)))
    loaded = await load(repository, url=f"{server.address}/handbook/.git", path="docs", **reference)
    assert await texts(loaded) == {"a.md": "second", "b.txt": "b"}
    coded = base64.b64encode(":".join(git_server.LOGIN).encode())
    written = b"".join(path.read_bytes() for path in (tmp_path / "scratch").rglob("*") if path.is_file())
    for text in (git_server.LOGIN[1].encode(), coded):
        assert text not in written
        assert text.decode() not in "".join(commands)


@pytest.mark.parametrize(
    ("values", "path", "reason"),
    [
        ({}, "/handbook/.git", "SourceUnauthorized"),
        ({"username": "reader", "password": "wrong-horse"}, "/handbook/.git", "SourceUnauthorized"),
        ({"token": "wrong-horse"}, "/handbook/.git", "SourceUnauthorized"),
        ({"username": "reader", "password": "correct horse"}, "/none/.git", "SourceNotFound"),
    ],
)
async def test_refusals_of_a_server_are_told_apart(
    repository: Repository, server: GitServer, tmp_path: Path, values: dict[str, str], path: str, reason: str
) -> None:
    """Wrong credentials and missing repositories have reasons of their own, which never hold a secret."""
    reference = secret(tmp_path, **values) if values else {}
    with pytest.raises(SourceFailure) as failure:
        await load(repository, url=f"{server.address}{path}", **reference)
    assert failure.value.reason == reason
    assert "horse" not in str(failure.value)
    assert ("team/login" in str(failure.value)) == (reason == "SourceUnauthorized" and bool(values))
