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
from lateen_serving.weights import cache, folders, locks
from lateen_serving.weights.cache import Cache, Fill
from lateen_serving.weights.quota import Room
from stack.waiting import wait_for

KEYS = [cache.key((letter,)) for letter in "abcd"]


class Usage(NamedTuple):
    """As `shutil.disk_usage` answers."""

    total: int
    used: int
    free: int


def filling(size: int = 10, name: str = "f") -> Fill:
    """Writes one file."""

    async def fill(folder: Path, _: Room) -> None:
        (folder / name).write_bytes(b"x" * size)

    return fill


async def never(folder: Path, _: Room) -> None:
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

    async def slowly(folder: Path, room: Room) -> None:
        nonlocal fetches
        fetches += 1
        started.set()
        await go_on.wait()
        await filling()(folder, room)

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

    async def stuck(folder: Path, _: Room) -> None:
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
    assert sorted(path.name for path in use.folder.glob("[!.]*")) == ["complete", "f"]


@pytest.mark.parametrize(("code", "kept"), [("SourceUnavailable", True), ("DigestMismatch", False)])
async def test_what_a_failed_download_leaves(tmp_path: Path, code: str, kept: bool) -> None:
    """What was cut short can go on with its complete files; what is wrong starts from nothing."""

    async def broken(folder: Path, _: Room) -> None:
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

    async def write(folder: Path, _: Room) -> None:
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
    assert {path.name for path in use.folder.glob("[!.]*")} == {"done", "f"}


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


async def test_what_was_just_made_is_not_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever needs room in the moment in which an entry appears does not get it: its maker holds it already."""
    publish, store, refused = cache._publish, Cache(tmp_path, limit=15), []

    def crowded(scratch: Path, entry: Path) -> None:
        publish(scratch, entry)
        with pytest.raises(LoadError, match="in use") as caught:
            asyncio.run(store.obtain(KEYS[1], 10, never))
        refused.append(caught.value.code)

    monkeypatch.setattr(cache, "_publish", crowded)
    use = await store.obtain(KEYS[0], 10, filling())
    assert refused == ["CacheFull"]
    assert (use.folder / "f").read_bytes() == b"x" * 10
    use.release()
    monkeypatch.undo()
    (await store.obtain(KEYS[1], 10, filling())).release()
    assert entries(store) == {KEYS[1]}


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
        "async def fill(folder, room): (folder / 'f').write_bytes(b'x' * 30)\n"
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


async def test_what_a_source_meant_last_is_remembered(tmp_path: Path) -> None:
    """The note is replaced whole; a source that never answered has none; it goes when its entry has gone."""
    store = Cache(tmp_path, limit=15)
    assert store.known(KEYS[0]) is None
    use = await store.obtain(KEYS[3], 10, filling())
    store.remember(KEYS[0], KEYS[1], use)
    store.remember(KEYS[0], KEYS[2], use)
    (tmp_path / "known" / ".unfinished").touch()
    assert store.known(KEYS[0]) == KEYS[2]
    use.release()
    (await store.obtain(KEYS[1], 10, filling())).release()
    (await store.obtain(KEYS[2], 10, filling())).release()
    assert store.known(KEYS[0]) is None
    assert not list((tmp_path / "known").iterdir())


async def test_locks_go_with_what_they_are_for(tmp_path: Path) -> None:
    """However many entries come and go, only the locks of those that are there stay."""
    store = Cache(tmp_path, limit=25)
    for name in KEYS:
        (await store.obtain(name, 10, filling())).release()
    (tmp_path / "locks" / f"{cache.key('x')}.make").touch()
    (tmp_path / "locks" / f"{cache.key('y')}.use").touch()
    (await store.obtain(KEYS[0], 10, filling())).release()
    names = {path.name for path in (tmp_path / "locks").iterdir()}
    assert names == {"books", *(f"{name}.use" for name in entries(store))}


async def test_a_lock_that_was_removed_is_no_lock(tmp_path: Path) -> None:
    """Who waited for a file that its holder removed takes the new one: two never hold one name."""
    lock = tmp_path / "x.make"
    held = locks.tried(lock)
    assert held is not None
    waiting = asyncio.create_task(asyncio.to_thread(locks.shared, lock))
    await asyncio.to_thread(wait_for_waiter, lock)
    locks.remove(lock, held)
    got = await waiting
    assert os.path.samestat(os.fstat(got), lock.stat())
    assert locks.tried(lock) is None
    os.close(got)


def wait_for_waiter(lock: Path) -> None:
    """Until somebody waits for `lock`, as the kernel lists it."""
    number = f":{lock.stat().st_ino} "
    wait_for(
        lambda: any("->" in line and number in line for line in Path("/proc/locks").read_text().splitlines()),
        10,
        "nobody waits",
        interval=0.01,
    )


@pytest.mark.parametrize("harm", ["file", "size", "list", "all"])
async def test_an_entry_that_was_harmed_is_made_anew(tmp_path: Path, harm: str) -> None:
    """A file that is gone or shorter makes it no entry, even while somebody uses it; it is replaced as a whole."""
    store = Cache(tmp_path)
    first = await store.obtain(KEYS[0], 10, filling())
    if harm == "all":
        shutil.rmtree(first.folder)
    elif harm == "size":
        (first.folder / "f").write_bytes(b"x" * 9)
    else:
        (first.folder / {"file": "f", "list": ".contents.json"}[harm]).unlink()
    assert store.use(KEYS[0]) is None
    second = await store.obtain(KEYS[0], 10, filling(10))
    assert (second.folder / "f").read_bytes() == b"x" * 10
    assert (await store.obtain(KEYS[0], 10, never)).folder == second.folder
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("limit", [100, None])
async def test_a_download_of_unstated_size_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """At the limit, or when the disk has no more; nothing of it stays, and what others hold is left alone."""
    store, written = Cache(tmp_path, limit), 0
    kept = await store.obtain(KEYS[0], 30, filling(30))
    disk(monkeypatch, lambda: 100 - sum(path.stat().st_size for path in tmp_path.rglob("f*")))

    async def endless(folder: Path, room: Room) -> None:
        nonlocal written
        with (folder / "f2").open("wb", buffering=0) as file:
            while True:
                await asyncio.to_thread(room.take, 10)
                written += file.write(b"x" * 10)

    with pytest.raises(LoadError, match=r"needed in .* free: .*(raise LATEEN|give the volume)") as caught:
        await store.obtain(KEYS[1], None, endless)
    assert caught.value.code == "CacheFull"
    assert written == 70
    assert not list((tmp_path / "scratch").iterdir())
    assert kept.folder.is_dir()


async def test_makers_do_not_count_on_the_same_bytes(tmp_path: Path) -> None:
    """What is promised to one who has not written it yet is taken; its end gives it back."""
    store = Cache(tmp_path, limit=100)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(folder: Path, room: Room) -> None:
        started.set()
        await go_on.wait()
        raise LoadError("no", code="DigestMismatch")

    maker = asyncio.create_task(store.obtain(KEYS[0], 60, slowly))
    await started.wait()
    with pytest.raises(LoadError, match="being made") as caught:
        await store.obtain(KEYS[1], 60, never)
    assert caught.value.code == "CacheFull"
    go_on.set()
    with pytest.raises(LoadError, match="no"):
        await maker
    (await store.obtain(KEYS[1], 60, filling(60))).release()


def test_sizes_of_what_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders that another process removes while they are counted count nothing."""
    for name in ("a/x", "b/y", "c/z"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"xx")
    real = Path.lstat

    def vanishing(path: Path) -> os.stat_result:
        if path.name == "x":
            shutil.rmtree(tmp_path / "b", ignore_errors=True)
            shutil.rmtree(tmp_path / "c", ignore_errors=True)
        return real(path)

    monkeypatch.setattr(Path, "lstat", vanishing)
    assert folders.size(tmp_path) in {2, 4, 6}
    assert folders.size(tmp_path / "absent") == 0
    assert folders.age(tmp_path / "absent") == 0.0
