# SPDX-License-Identifier: Apache-2.0
"""The cache of weights: made once, seen whole, bounded, and clean after crashes."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lateen_serving.errors import LoadError
from lateen_serving.weights import cache
from lateen_serving.weights.cache import Cache, Fill

KEYS = [cache.key((letter,)) for letter in "abcd"]


class Usage(NamedTuple):
    """As `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


def filling(size: int = 10, name: str = "f") -> Fill:
    """Writes one file."""

    async def fill(folder: Path) -> None:
        (folder / name).write_bytes(b"x" * size)

    return fill


async def never(folder: Path) -> None:
    """What must not be called."""
    raise AssertionError(f"{folder} was filled again")


def disk(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int]) -> None:
    """A disk that has `free()` bytes and the spare ones."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free() + 64 * 2**20))


def entries(store: Cache) -> set[str]:
    """Keys that are there."""
    return {path.name for path in (store.root / "entries").iterdir()}


async def test_an_entry_is_made_once(tmp_path: Path) -> None:
    """Of many loaders that come together one fetches; the others wait and get the same folder."""
    started, go_on = asyncio.Event(), asyncio.Event()
    fetches = 0

    async def slowly(folder: Path) -> None:
        nonlocal fetches
        fetches += 1
        started.set()
        await go_on.wait()
        await filling()(folder)

    store = Cache(tmp_path)
    loaders = [asyncio.create_task(store.obtain(KEYS[0], 10, slowly)) for _ in range(5)]
    await started.wait()
    assert not entries(store)
    go_on.set()
    uses = await asyncio.gather(*loaders)
    assert fetches == 1
    assert {use.folder for use in uses} == {tmp_path / "entries" / KEYS[0]}
    assert (uses[0].folder / "f").read_bytes() == b"x" * 10
    assert (await store.obtain(KEYS[0], 10, never)).folder == uses[0].folder


async def test_a_waiting_loader_can_be_cancelled(tmp_path: Path) -> None:
    """Cancelling one that waits leaves the maker alone; cancelling the maker lets the next one make it."""
    started, forever = asyncio.Event(), asyncio.Event()

    async def stuck(folder: Path) -> None:
        (folder / "complete").write_text("kept")
        started.set()
        await forever.wait()

    store = Cache(tmp_path)
    maker = asyncio.create_task(store.obtain(KEYS[0], None, stuck))
    await started.wait()
    waiter = asyncio.create_task(store.obtain(KEYS[0], None, never))
    await asyncio.sleep(0)
    waiter.cancel()
    maker.cancel()
    await asyncio.gather(waiter, maker, return_exceptions=True)
    use = await store.obtain(KEYS[0], None, filling())
    assert sorted(path.name for path in use.folder.iterdir()) == ["complete", "f"]


@pytest.mark.parametrize(("code", "kept"), [("SourceUnavailable", True), ("DigestMismatch", False)])
async def test_what_a_failed_download_leaves(tmp_path: Path, code: str, kept: bool) -> None:
    """What was cut short can go on with its complete files; what is wrong starts from nothing."""

    async def broken(folder: Path) -> None:
        (folder / "part").write_text("x")
        raise LoadError("no", code=code)

    store = Cache(tmp_path)
    with pytest.raises(LoadError, match="no"):
        await store.obtain(KEYS[0], None, broken)
    assert not entries(store)
    assert (tmp_path / "scratch" / KEYS[0] / "part").exists() is kept


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_a_full_disk_is_cache_full(tmp_path: Path, number: int) -> None:
    """Whatever word the system has for it; the room that was taken is given back."""

    async def write(folder: Path) -> None:
        (folder / "part").write_text("x")
        raise OSError(number, os.strerror(number))

    with pytest.raises(LoadError, match=str(tmp_path)) as caught:
        await Cache(tmp_path).obtain(KEYS[0], 3 * 2**30, write)
    assert caught.value.code == "CacheFull"
    assert "3.00 GiB" in caught.value.message
    assert not list((tmp_path / "scratch").iterdir())


async def test_too_little_room_is_said_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much is needed and where; what a killed download left counts as done."""
    disk(monkeypatch, lambda: 50)
    with pytest.raises(LoadError, match="nothing else can be evicted") as caught:
        await Cache(tmp_path).obtain(KEYS[0], 60, never)
    assert caught.value.code == "CacheFull"
    partial = tmp_path / "scratch" / KEYS[1]
    partial.mkdir(parents=True)
    (partial / "done").write_bytes(b"x" * 20)
    use = await Cache(tmp_path).obtain(KEYS[1], 60, filling(40))
    assert {path.name for path in use.folder.iterdir()} == {"done", "f"}


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    """Over the limit, what nobody holds is evicted in the order of its last use; what is held stays."""
    store = Cache(tmp_path, limit=100)
    for at, name in enumerate(KEYS[:3]):
        use = await store.obtain(name, 30, filling(30))
        os.utime(store.root / "locks" / f"{name}.use", (at, at))
        if at:
            use.release()  # the oldest one stays in use
    (await store.obtain(KEYS[3], 30, filling(30))).release()
    assert entries(store) == {KEYS[0], KEYS[2], KEYS[3]}
    with pytest.raises(LoadError, match="in use") as caught:
        await store.obtain(KEYS[1], 90, never)
    assert caught.value.code == "CacheFull"
    with pytest.raises(LoadError, match="LATEEN_MODEL_CACHE_BYTES"):
        await store.obtain(KEYS[1], 101, never)


async def test_a_use_makes_an_entry_recent(tmp_path: Path) -> None:
    """Taking an entry that is there moves it to the end of the row."""
    store = Cache(tmp_path, limit=60)
    for at, name in enumerate(KEYS[:2]):
        (await store.obtain(name, 30, filling(30))).release()
        os.utime(store.root / "locks" / f"{name}.use", (at, at))
    (await store.obtain(KEYS[0], 30, never)).release()
    (await store.obtain(KEYS[2], 30, filling(30))).release()
    assert entries(store) == {KEYS[0], KEYS[2]}


async def test_a_full_disk_evicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit the disk is one: partial downloads nobody works on go first, then old entries."""
    store = Cache(tmp_path)
    (await store.obtain(KEYS[0], 30, filling(30))).release()
    left = tmp_path / "scratch" / KEYS[1]
    left.mkdir()
    (left / "f").write_bytes(b"x" * 30)
    kept = await store.obtain(KEYS[2], 30, filling(30))
    disk(monkeypatch, lambda: 100 - sum(path.stat().st_size for path in tmp_path.rglob("f")))
    (await store.obtain(KEYS[3], 40, filling(40))).release()
    assert not left.exists()
    assert entries(store) == {KEYS[0], KEYS[2], KEYS[3]}
    (await store.obtain(KEYS[1], 30, filling(30))).release()
    assert entries(store) == {KEYS[1], KEYS[2], KEYS[3]}
    assert kept.folder.is_dir()


async def test_leftovers_of_the_dead_are_swept(tmp_path: Path) -> None:
    """Half-removed folders and partial downloads that nobody has touched for a day; fresh ones may be taken up."""
    for name in (".gone-1-1", KEYS[1], KEYS[2]):
        (tmp_path / "scratch" / name).mkdir(parents=True)
    os.utime(tmp_path / "scratch" / KEYS[1], (0, 0))
    (await Cache(tmp_path).obtain(KEYS[0], None, filling())).release()
    assert {path.name for path in (tmp_path / "scratch").iterdir()} == {KEYS[2]}


def test_a_hold_ends_with_its_process(tmp_path: Path) -> None:
    """An entry is in use while the process that took it lives, and no longer, however it ends."""
    holder = (
        "import os, sys, asyncio, pathlib\n"
        "from lateen_serving.weights.cache import Cache\n"
        "async def fill(folder): (folder / 'f').write_bytes(b'x' * 30)\n"
        f"asyncio.run(Cache(pathlib.Path({str(tmp_path)!r})).obtain({KEYS[0]!r}, 30, fill))\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        store = Cache(tmp_path, limit=40)
        with pytest.raises(LoadError, match="in use"):
            asyncio.run(store.obtain(KEYS[1], 30, filling(30)))
        child.kill()
        child.wait()
    asyncio.run(store.obtain(KEYS[1], 30, filling(30))).release()
    assert entries(store) == {KEYS[1]}


def test_what_a_source_meant_last_is_remembered(tmp_path: Path) -> None:
    """The note is replaced whole; a source that never answered has none."""
    store = Cache(tmp_path)
    assert store.known(KEYS[0]) is None
    store.remember(KEYS[0], KEYS[1])
    store.remember(KEYS[0], KEYS[2])
    assert store.known(KEYS[0]) == KEYS[2]
    assert [path.name for path in (tmp_path / "known").iterdir()] == [KEYS[0]]
