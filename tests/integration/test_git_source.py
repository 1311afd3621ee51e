# SPDX-License-Identifier: Apache-2.0
"""Reading Git repositories with the real git; needs no stack."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from lateen_api.rag_sources import Source
from lateen_serving.rag import git, sources
from lateen_serving.rag.protocol import Loaded, SourceFailure
from lateen_serving.rag.sources import Surroundings
from lateen_serving.settings import ServingSettings
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


async def load(repository: Repository, folder: str = "scratch", **more: Any) -> Loaded:
    """The documents of the repository as source `s`."""
    base = repository.folder.parents[1]
    settings = ServingSettings(file_roots=[base / "roots"])
    around = Surroundings(settings, base, base / folder, 4096)
    return await sources.load(
        Source.model_validate({"name": "s", "git": {"url": repository.url} | more}), around
    )


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
async def test_what_is_not_in_the_repository(repository: Repository, more: dict[str, str]) -> None:
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
