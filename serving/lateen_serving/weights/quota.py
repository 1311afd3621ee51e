# SPDX-License-Identifier: Apache-2.0
"""What the cache may take of the disk: promises room to those who make entries, evicts, and sweeps. Called by `cache.py`.

Every process promises under one lock, and a promise is written into the maker's own lock: so makers that come together
don't count on the same bytes.
"""

import errno
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from lateen_serving.errors import LoadError
from lateen_serving.weights import folders, locks
from lateen_serving.weights.folders import Folders

_KEEP_SCRATCH_SECONDS = 24 * 3600.0
"""After this time without a change nobody is expected to go on with a partial download."""

_SPARE_BYTES = 64 * 2**20
"""Left free on the disk beyond what is needed."""

STEP_BYTES = 64 * 2**20
"""Promised at a time to a maker that does not know how much it needs, if there is so much."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Whether `error` says that nothing more can be written."""
    return error.errno in _FULL


def full(needed: int | None, root: Path, free: int, why: str) -> LoadError:
    """The error for a disk without room."""
    what = "more room is" if needed is None else f"{_amount(needed)} are"
    return LoadError(f"{what} needed in {root}, {_amount(free)} are free: {why}", code="CacheFull")


def _amount(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 or size == 0 else f"{size / 2**20:.2f} MiB"


@dataclass(frozen=True)
class Quota:
    """The bookkeeping of one cache folder. Its methods block: they run in threads."""

    places: Folders
    limit: int | None
    """Bytes of all entries and partial folders together; None: what the disk has."""

    def promise(self, key: str, least: int, most: int) -> int:
        """How many bytes the partial folder of `key` may have in all: `most` if there is room, else `least`.

        The caller holds the lock to make `key`. Makes room for `least` by removing partial folders that nobody works on,
        then entries that nobody uses, the least recently used first. Raises LoadError CacheFull.
        """
        with locks.briefly(self.places.books):
            total = most if self._short(key, most)[0] <= 0 else least
            if total == least:
                self._make_room(key, least)
            self.places.make(key).write_text(str(total))
        return total

    def free(self) -> int:
        """Bytes the disk has left."""
        return shutil.disk_usage(self.places.root).free

    def sweep(self, mine: str) -> None:
        """Remove what the dead left and what nothing refers to any more; the caller holds the lock to make `mine`."""
        for path in self.places.scratch.iterdir():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != mine and folders.age(path) > _KEEP_SCRATCH_SECONDS:
                self._drop(self.places.make(path.name), path)
        with locks.briefly(self.places.books):
            self._prune_notes()
            self._prune_locks(mine)

    def _make_room(self, key: str, total: int) -> None:
        if self.limit is not None and total > self.limit:
            why = "LATEEN_MODEL_CACHE_BYTES is smaller than the weights; raise it"
            raise full(total, self.places.root, self.limit, why)
        if self._short(key, total)[0] > 0:
            self._drop_partials(key)
        short, _, _ = self._short(key, total)
        if short > 0:
            self._evict(short)
        short, room, why = self._short(key, total)
        if short > 0:
            raise full(total, self.places.root, room, why)

    def _short(self, key: str, total: int) -> tuple[int, int, str]:
        """Bytes to be freed before the partial folder of `key` can grow to `total`; the room it has now; the reason."""
        mine, others, promised = folders.size(self.places.scratch / key), self._entries(), 0
        for path in self._partials(key):
            there = folders.size(path)
            ahead = max(0, self._promised(path.name) - there)
            others, promised = others + there + ahead, promised + ahead
        on_disk = max(0, self.free() - promised - _SPARE_BYTES) + mine
        by_disk = total - on_disk, on_disk, "nothing else can be evicted; give the volume more room"
        if self.limit is None:
            return by_disk
        room = max(0, self.limit - others)
        why = "other entries of the cache are in use or being made; raise LATEEN_MODEL_CACHE_BYTES"
        return max(by_disk, (total - room, room, why))

    def _entries(self) -> int:
        return sum(folders.size(entry) for entry in self.places.entries.iterdir())

    def _partials(self, mine: str) -> list[Path]:
        found = self.places.scratch.iterdir()
        return [path for path in found if path.name != mine and not path.name.startswith(".")]

    def _promised(self, key: str) -> int:
        try:
            return int(self.places.make(key).read_text() or 0)
        except FileNotFoundError:
            return 0

    def _drop_partials(self, mine: str) -> None:
        for path in self._partials(mine):
            self._drop(self.places.make(path.name), path)

    def _evict(self, wanted: int) -> None:
        """Remove unused entries, the least recently used first, until `wanted` bytes are free."""
        freed = 0
        for entry in sorted(self.places.entries.iterdir(), key=self._last_use):
            if freed >= wanted:
                break
            size = folders.size(entry)
            if self._drop(self.places.use(entry.name), entry):
                freed += size

    def _last_use(self, entry: Path) -> float:
        try:
            return self.places.use(entry.name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _drop(self, lock: Path, folder: Path) -> bool:
        """Remove `folder` and its lock if nobody holds the lock; whether it was removed."""
        descriptor = locks.tried(lock)
        if descriptor is None:
            return False
        try:
            gone = self.places.put_away(folder)
        finally:
            locks.remove(lock, descriptor)
        shutil.rmtree(gone, ignore_errors=True)  # after the lock: nobody has to wait for it
        return True

    def _prune_locks(self, mine: str) -> None:
        """Remove the locks of what is not there; those that somebody holds are left."""
        for lock in self.places.locks.iterdir():
            key, _, kind = lock.name.partition(".")
            folder = {"use": self.places.entries, "make": self.places.scratch}.get(kind)
            if folder is None or (folder / key).exists() or (kind == "make" and key == mine):
                continue
            if (descriptor := locks.tried(lock)) is not None:
                locks.remove(lock, descriptor)

    def _prune_notes(self) -> None:
        """Remove what was noted of entries that are gone, and notes that were never finished."""
        for note in self.places.known.iterdir():
            folder = note.read_text().rpartition(" ")[2]
            if note.name.startswith(".") or not (folder and (self.places.entries / folder).is_dir()):
                note.unlink()


class Room:
    """What one entry may have while it is made: asked before each write. Used by many threads at once."""

    def __init__(self, quota: Quota, key: str, needed: int | None) -> None:
        """Promise `needed` bytes in all, where that is known; blocks, raises LoadError CacheFull."""
        self._quota, self._key = quota, key
        self._lock = threading.Lock()
        self._stopped = False
        self._used = folders.size(quota.places.scratch / key)
        total = max(needed or 0, self._used)
        self._promised = quota.promise(key, total, total)

    def take(self, more: int) -> None:
        """Count `more` bytes that are about to be written; raises LoadError CacheFull instead of going too far."""
        with self._lock:
            self._grow(self._used + more)
            self._used += more

    def expect(self, more: int) -> None:
        """Make sure of `more` bytes before any of them is written; raises LoadError CacheFull."""
        with self._lock:
            self._grow(self._used + more)

    def reach(self, total: int) -> None:
        """Note that the folder, which somebody else fills, has `total` bytes; raises LoadError CacheFull."""
        with self._lock:
            self._used = total
            self._grow(total)

    def give_back(self, path: Path) -> None:
        """No longer count a file of an earlier attempt, which is about to be overwritten."""
        try:
            size = os.lstat(path).st_size
        except FileNotFoundError:
            return
        with self._lock:
            self._used = max(0, self._used - size)

    def stop(self) -> None:
        """Let nothing more be written: whoever fills the folder was cancelled."""
        self._stopped = True

    def _grow(self, total: int) -> None:
        if self._stopped:
            raise LoadError("the download was cancelled", code="SourceUnavailable")
        if total > self._promised:
            self._promised = self._quota.promise(self._key, total, total + STEP_BYTES)
