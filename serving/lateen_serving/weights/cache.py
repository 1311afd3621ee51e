# SPDX-License-Identifier: Apache-2.0
"""The weights that are on this node's disk, or on a volume that nodes share. Called by `source.py` and `gguf.py`.

    MODEL_CACHE/entries/KEY/     a complete folder; KEY is the hash of what identifies its content
                scratch/KEY/     one that is being made; kept when its maker dies, so that the next one goes on
                scratch/.gone-*  one that is being removed
                locks/KEY.make   held by the one process that makes an entry, while the others wait
                locks/KEY.use    held, shared, by every process that uses the entry; its time is that of the last use
                known/SOURCE     which KEY a source had when it could last be asked

All locks are the kernel's: they end with the process that holds them, however it dies. An entry appears and
disappears by one rename.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lateen_serving.errors import LoadError

_POLL_SECONDS = 0.2
_KEEP_SCRATCH_SECONDS = 24 * 3600.0
"""After this time without a change nobody is expected to go on with a partial download."""

_SPARE_BYTES = 64 * 2**20
"""Left free on the disk beyond what is needed."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Fill = Callable[[Path], Awaitable[None]]
"""Fills a folder, which may hold what an earlier attempt left; when it returns the folder is complete."""


@dataclass(frozen=True)
class Use:
    """A shared hold on an entry. It lasts until `release` or the end of the process, whichever is first."""

    folder: Path
    descriptor: int

    def release(self) -> None:
        """Let the entry go: it may be evicted from now on."""
        os.close(self.descriptor)


def key(identity: Iterable[str]) -> str:
    """The key of the content that `identity` describes: 64 hex digits."""
    text = "\0".join(identity)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def is_full(error: OSError) -> bool:
    """Whether `error` says that nothing more can be written."""
    return error.errno in _FULL


def full(needed: int | None, root: Path, free: int, why: str) -> LoadError:
    """The error for a disk without room."""
    what = "more room is" if needed is None else f"{needed / 2**30:.2f} GiB are"
    return LoadError(f"{what} needed in {root}, {free / 2**30:.2f} GiB are free: {why}", code="CacheFull")


@dataclass(frozen=True)
class Cache:
    """One cache folder. All methods may run in many processes at once."""

    root: Path
    limit: int | None = None
    """Bytes of all entries together; None: what the disk has."""

    async def obtain(self, key: str, needed: int | None, fill: Fill) -> Use:
        """The entry `key`, made with `fill` if it is not there; one process makes it while others wait.

        `needed` is its size in bytes where that is known before. Raises LoadError CacheFull, and what `fill` raises.
        """
        await asyncio.to_thread(self._prepare)
        if use := self.use(key):
            return use
        async with _alone(self._lock(key, "make")):
            if use := self.use(key):
                return use
            await asyncio.to_thread(self._sweep, key)
            await asyncio.to_thread(self.reserve, needed, self._scratch(key))
            await self._make(key, needed, fill)
            use = self.use(key)
            if use is None:
                raise LoadError(f"{self._entry(key)} was removed while it was made", code="SourceUnavailable")
            return use

    async def _make(self, key: str, needed: int | None, fill: Fill) -> None:
        scratch = self._scratch(key)
        try:
            await asyncio.to_thread(scratch.mkdir, exist_ok=True)
            await fill(scratch)
            await asyncio.to_thread(_publish, scratch, self._entry(key))
        except LoadError as error:
            if error.code != "SourceUnavailable":  # trying again would meet the same files
                await asyncio.to_thread(self._remove, scratch)
            raise
        except OSError as error:
            if not is_full(error):
                raise
            await asyncio.to_thread(self._remove, scratch)
            raise full(needed, self.root, self._free(), os.strerror(error.errno or 0)) from error

    def use(self, key: str) -> Use | None:
        """The entry `key`, held so that nobody evicts it, if it is there."""
        descriptor = _open(self._lock(key, "use"))
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not self._entry(key).is_dir():
            os.close(descriptor)
            return None
        os.utime(descriptor)
        return Use(self._entry(key), descriptor)

    def known(self, source: str) -> str | None:
        """The key that `source` (a key itself) had when it could last be asked."""
        try:
            return (self.root / "known" / source).read_text()
        except FileNotFoundError:
            return None

    def remember(self, source: str, key: str) -> None:
        """Note that `source` means `key` now."""
        place = self.root / "known" / source
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=".", delete=False) as file:
            file.write(key)
        Path(file.name).replace(place)

    def reserve(self, needed: int | None, partial: Path) -> None:
        """Make room for `needed` bytes, less what `partial` has of them; raises LoadError CacheFull.

        Without a known size only the limit is enforced, on the entries that are there.
        """
        missing = max(0, (needed or 0) - _size(partial))
        if self.limit is not None:
            if (needed or 0) > self.limit:
                raise full(
                    needed, self.root, self.limit, "LATEEN_MODEL_CACHE_BYTES is smaller than the weights"
                )
            over = self._total() + (needed or 0) - self.limit
            if over > 0 and self._evict(over) < over:
                room = max(0, self.limit - self._total())
                raise full(needed, self.root, room, "other entries of the cache are in use")
        short = missing + _SPARE_BYTES - self._free()
        if needed is None or short <= 0:
            return
        freed = self._drop_partials(partial)
        if freed < short:
            self._evict(short - freed)
        if self._free() < missing + _SPARE_BYTES:
            raise full(needed, self.root, self._free(), "nothing else can be evicted")

    def _prepare(self) -> None:
        for name in ("entries", "scratch", "locks"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def _entry(self, key: str) -> Path:
        return self.root / "entries" / key

    def _scratch(self, key: str) -> Path:
        return self.root / "scratch" / key

    def _lock(self, key: str, kind: str) -> Path:
        return self.root / "locks" / f"{key}.{kind}"

    def _free(self) -> int:
        return shutil.disk_usage(self.root).free

    def _total(self) -> int:
        return sum(_size(entry) for entry in (self.root / "entries").iterdir())

    def _evict(self, wanted: int) -> int:
        """Remove unused entries, the least recently used first, until `wanted` bytes are free; the bytes freed."""
        freed = 0
        for entry in sorted((self.root / "entries").iterdir(), key=self._last_use):
            if freed >= wanted:
                break
            size = _size(entry)
            if self._exclusively(self._lock(entry.name, "use"), entry):
                freed += size
        return freed

    def _last_use(self, entry: Path) -> float:
        try:
            return self._lock(entry.name, "use").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _sweep(self, mine: str) -> None:
        """Remove what dead processes left: half-removed folders, and partial ones nobody came back for."""
        for path in (self.root / "scratch").iterdir():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != mine and _age(path) > _KEEP_SCRATCH_SECONDS:
                self._exclusively(self._lock(path.name, "make"), path)

    def _drop_partials(self, mine: Path) -> int:
        """Remove the partial folders that nobody works on; the bytes freed."""
        freed = 0
        for path in (self.root / "scratch").iterdir():
            if path != mine and not path.name.startswith("."):
                size = _size(path)
                if self._exclusively(self._lock(path.name, "make"), path):
                    freed += size
        return freed

    def _exclusively(self, lock: Path, folder: Path) -> bool:
        """Remove `folder` if nobody holds `lock`; whether it was removed."""
        descriptor = _open(lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = self._put_away(folder)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        shutil.rmtree(gone, ignore_errors=True)  # after the lock: nobody has to wait for it
        return True

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(self._put_away(folder), ignore_errors=True)

    def _put_away(self, folder: Path) -> Path:
        gone = self.root / "scratch" / f".gone-{os.getpid()}-{time.monotonic_ns()}"
        with suppress(FileNotFoundError):
            folder.rename(gone)
        return gone


@asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Hold `lock` alone; others wait, and stop waiting when they are cancelled."""
    descriptor = _open(lock)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _publish(scratch: Path, entry: Path) -> None:
    """Make a filled folder visible; what it holds is on the disk before its name is."""
    for path in (*scratch.rglob("*"), scratch):
        path.chmod(0o755 if path.is_dir() else 0o644)  # replicas may run as another user
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    scratch.rename(entry)


def _open(lock: Path) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _age(folder: Path) -> float:
    try:
        newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return 0.0
    return time.time() - newest
