# SPDX-License-Identifier: Apache-2.0
"""Bounds of archives, whatever server they come from."""

import asyncio
import io
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lateen_serving.errors import LoadError
from lateen_serving.weights import archives, remote
from lateen_serving.weights.remote import Part
from unit.weights_fakes import room

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 3000, "tokenizer.json": b"[]"}


def zipped() -> bytes:
    """A zip archive."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return output.getvalue()


def tarred() -> bytes:
    """A compressed tar archive."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz") as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return output.getvalue()


@pytest.mark.parametrize(("bound", "value"), [("MOST_FILES", 2), ("MOST_BYTES", 3000)])
def test_archives_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """Too many files, or too many bytes when unpacked, are refused before anything is written."""
    monkeypatch.setattr(archives, bound, value)
    for body in (zipped(), tarred()):
        (tmp_path / "a").write_bytes(body)
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(LoadError) as caught:
            archives.unpack(tmp_path / "a", tmp_path / "x", "it", room(tmp_path / "cache"))
        assert caught.value.code == "SourceRefused"
        assert not list((tmp_path / "x").iterdir())


def test_an_archive_that_does_not_fit(tmp_path: Path) -> None:
    """What it unpacks to is compared with the room first: nothing of it is written."""
    for body in (zipped(), tarred()):
        (tmp_path / "a").write_bytes(body)
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(LoadError, match="LATEEN_MODEL_CACHE_BYTES") as caught:
            archives.unpack(tmp_path / "a", tmp_path / "x", "it", room(tmp_path / "cache", limit=2000))
        assert caught.value.code == "CacheFull"
        assert not list((tmp_path / "x").iterdir())


def test_a_header_is_no_way_to_fill_the_memory(tmp_path: Path) -> None:
    """A long name of many bytes is refused before it is read; one of the usual length is read."""
    for size, refused in ((archives.LONGEST_HEADER + 1, True), (300, False)):
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as archive:
            info = tarfile.TarInfo("config.json" if refused else f"{'d' * 200}/{'e' * 99}/config.json")
            if refused:
                long = tarfile.TarInfo("././@LongLink")
                long.type, long.size = tarfile.GNUTYPE_LONGNAME, size
                archive.addfile(long, io.BytesIO(b"a" * size))
            archive.addfile(info)
        (tmp_path / "a").write_bytes(output.getvalue())
        (tmp_path / "x").mkdir(exist_ok=True)
        if refused:
            with pytest.raises(LoadError, match="too long"):
                archives.unpack(tmp_path / "a", tmp_path / "x", "it", room(tmp_path / "cache"))
        else:
            archives.unpack(tmp_path / "a", tmp_path / "x", "it", room(tmp_path / "cache"))


async def test_a_cancelled_unpack_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the cancellation has come through, the thread is done and nothing more is written."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("config.json", b"{}")
        archive.writestr("model.safetensors", b"w" * 50 * 2**20)
    (tmp_path / "a.zip").write_bytes(body.getvalue())
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    space, unpack = room(tmp_path / "cache"), archives.unpack
    take = space.take

    def taken(more: int) -> None:
        if more > 2:  # a block of the weights
            begun.set()
            go_on.wait(30)
        take(more)

    def unpacked(*arguments: Any) -> list[str]:
        try:
            return unpack(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(space, "take", taken)
    monkeypatch.setattr(archives, "unpack", unpacked)
    work = asyncio.create_task(remote.unpack(Part("a.zip", "a.zip", archive=True), tmp_path, "it", space))
    assert await asyncio.to_thread(begun.wait, 30)
    work.cancel()
    try:
        async with asyncio.timeout(10):
            while not space._stopped:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0)
        assert not work.done()
    finally:
        go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert ended.is_set()
    assert (tmp_path / "model.safetensors").stat().st_size == 0
    assert (tmp_path / "config.json").read_bytes() == b"{}"
