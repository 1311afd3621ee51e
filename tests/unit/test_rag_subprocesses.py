# SPDX-License-Identifier: Apache-2.0
"""Commands that are run with bounds."""

import os
from pathlib import Path

import pytest

from lateen_api.rag_sources import GitSource
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.rag import git
from lateen_serving.rag.protocol import SourceFailure
from lateen_serving.rag.subprocesses import Failed, TooMuch, run

PATH = {"PATH": os.environ["PATH"]}


async def sh(script: str, given: bytes = b"", limit: float = 60.0, most: int = 1000) -> bytes:
    """What the script prints."""
    return await run(("sh", "-c", script), PATH, given=given, limit=limit, file_bytes=2**20, most=most)


async def test_what_is_given_comes_back() -> None:
    """More than a pipe holds goes in and out at once; a command need not read what it is given."""
    data = bytes(range(256)) * 4000
    assert await sh("cat", data, most=len(data)) == data
    assert await sh("exec <&-; echo done", data) == b"done\n"


async def test_a_command_that_fails_says_why() -> None:
    """Its words come with the failure."""
    with pytest.raises(Failed, match="ended with 3") as failure:
        await sh("echo why >&2; exit 3")
    assert failure.value.printed == "why\n"


@pytest.mark.parametrize("stream", ["1", "2"])
async def test_a_command_that_prints_without_end_is_ended(tmp_path: Path, stream: str) -> None:
    """On either stream, with its children; nothing of it stays."""
    ids = tmp_path / "ids"
    with pytest.raises(TooMuch):
        await sh(f"sleep 600 & echo $$ > {ids}; exec yes >&{stream}")
    with pytest.raises(ProcessLookupError):
        os.kill(int(ids.read_text()), 0)


async def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """After its time, although it holds its pipes open."""
    ids = tmp_path / "ids"
    with pytest.raises(Failed, match="did not end"):
        await sh(f"echo $$ > {ids}; exec sleep 600", limit=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ids.read_text()), 0)


async def test_a_repository_whose_listing_is_too_long_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source fails with that reason; the content of a file has room of its own."""
    asked: list[int] = []

    async def endless(*_: object, most: int, **__: object) -> bytes:
        asked.append(most)
        raise TooMuch("it printed more than 64 MiB")

    monkeypatch.setattr(git, "run", endless)
    source = GitSource.model_validate({"url": "https://git.example/o/r"})
    repository = git._Repository(tmp_path, source, git.Access([], Allowed(), Credentials()))
    with pytest.raises(SourceFailure, match="ls-tree") as failure:
        await repository.tree("0" * 40, 1000)
    assert failure.value.reason == "TooLarge"
    with pytest.raises(SourceFailure):
        await repository._copy(["0" * 40], tmp_path, 1000)
    assert asked == [2**26, 2**26 + 1000]
