# SPDX-License-Identifier: Apache-2.0
"""The weights that are on this node's disk, or on a volume that nodes share. Called by `source.py` and `gguf.py`.

    MODEL_CACHE/entries/KEY/     a complete folder; KEY is the hash of what identifies its content
                entries/KEY/.contents.json   names and sizes of its files: what is deleted from it by hand is noticed
                scratch/KEY/     one that is being made; kept when its maker dies, so that the next one goes on
                scratch/.gone-*  one that is being removed
                locks/KEY.make   held by the one process that makes an entry, while the others wait
                locks/KEY.use    held, shared, by every process that uses the entry; its time is that of the last use
                locks/books      held for moments, to count, to promise room, and to note
                known/SOURCE     which KEY a source had when it could last be asked, and the entry used for it

All locks are the kernel's: they end with the process that holds them, however it dies. An entry appears and
disappears by one rename. A cache belongs to one Unix user; many processes of that user may share it.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lateen_serving.errors import LoadError
from lateen_serving.weights import locks, quota
from lateen_serving.weights.folders import CONTENTS, Folders
from lateen_serving.weights.quota import Quota, Room

Fill = Callable[[Path, Room], Awaitable[None]]
"""Fills a folder, which may hold what an earlier attempt left, within the room; when it returns it is complete."""


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
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Cache:
    """One cache folder. All methods may run in many processes of one Unix user at once."""

    root: Path
    limit: int | None = None
    """Bytes of all entries together, of partial ones too; None: what the disk has."""

    @property
    def _places(self) -> Folders:
        return Folders(self.root)

    @property
    def _quota(self) -> Quota:
        return Quota(self._places, self.limit)

    async def obtain(self, key: str, needed: int | None, fill: Fill) -> Use:
        """The entry `key`, made with `fill` if it is not there; one process makes it while others wait.

        `needed` is its size in bytes where that is known before. Raises LoadError CacheFull, and what `fill` raises.
        """
        await asyncio.to_thread(self.prepare)
        if use := self.use(key):
            return use
        async with locks.alone(self._places.make(key)):
            if use := self.use(key):
                return use
            await asyncio.to_thread(self._clear, key)
            return await self._make(key, needed, fill)

    async def _make(self, key: str, needed: int | None, fill: Fill) -> Use:
        scratch = self._places.scratch / key
        try:
            room = await asyncio.to_thread(Room, self._quota, key, needed)
            await asyncio.to_thread(scratch.mkdir, mode=0o700, exist_ok=True)
            await fill(scratch, room)
            return await self._appear(key, scratch)
        except LoadError as error:
            if error.code != "SourceUnavailable":  # trying again would meet the same files
                await asyncio.to_thread(self._places.remove, scratch)
            raise
        except OSError as error:
            if not quota.is_full(error):
                raise
            await asyncio.to_thread(self._places.remove, scratch)
            why = f"{os.strerror(error.errno or 0)}; give the volume more room"
            raise quota.full(needed, self.root, self._quota.free(), why) from error

    async def _appear(self, key: str, scratch: Path) -> Use:
        """Make a filled folder the entry `key`. It is held before anybody sees it, so that nobody evicts it first."""
        descriptor = locks.shared(self._places.use(key))
        try:
            os.utime(descriptor)
            await asyncio.to_thread(_publish, scratch, self._entry(key))
        except BaseException:
            os.close(descriptor)
            raise
        return Use(self._entry(key), descriptor)

    def use(self, key: str) -> Use | None:
        """The entry `key`, held so that nobody evicts it, if it is there and whole."""
        if not self._entry(key).is_dir():
            return None
        descriptor = locks.shared(self._places.use(key))
        try:
            whole = _is_whole(self._entry(key))
        except BaseException:
            os.close(descriptor)
            raise
        if not whole:
            os.close(descriptor)
            return None
        os.utime(descriptor)
        return Use(self._entry(key), descriptor)

    def known(self, source: str) -> str | None:
        """The key that `source` (a key itself) had when it could last be asked."""
        try:
            return (self._places.known / source).read_text().partition(" ")[0]
        except FileNotFoundError:
            return None

    def remember(self, source: str, key: str, used: Use) -> None:
        """Note that `source` means `key` now, for as long as the entry `used` for it is there. Blocks."""
        with locks.briefly(self._places.books):
            place = self._places.known / source
            place.parent.mkdir(mode=0o700, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=".", delete=False) as file:
                file.write(f"{key} {used.folder.name}")
            Path(file.name).replace(place)

    def _clear(self, key: str) -> None:
        """Put away the broken entry `key`, if there is one, whoever uses it still, and what else is of no use."""
        if self._entry(key).exists():
            self._places.remove(self._entry(key))
        self._quota.sweep(key)

    def prepare(self) -> None:
        """Make the cache's folders; raises LoadError SourceUnavailable where this user can't write. Blocks."""
        places = self._places
        try:
            for folder in (self.root, places.entries, places.scratch, places.locks, places.known):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except PermissionError as error:
            raise self._foreign() from error
        if not os.access(places.locks, os.W_OK | os.X_OK, effective_ids=True):
            raise self._foreign()

    def _foreign(self) -> LoadError:
        return LoadError(
            f"the model cache {self.root} can't be written by user {os.geteuid()}: a cache belongs to one Unix user;"
            " set LATEEN_MODEL_CACHE to a folder of this user",
            code="SourceUnavailable",
        )

    def _entry(self, key: str) -> Path:
        return self._places.entries / key


def _publish(scratch: Path, entry: Path) -> None:
    """Make a filled folder visible; what it holds is on the disk before its name is."""
    (scratch / CONTENTS).unlink(missing_ok=True)
    paths = list(scratch.rglob("*"))
    sizes = {path.relative_to(scratch).as_posix(): path.stat().st_size for path in paths if path.is_file()}
    (scratch / CONTENTS).write_text(json.dumps(sizes))
    for path in (*paths, scratch / CONTENTS, scratch):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    scratch.rename(entry)


def _is_whole(entry: Path) -> bool:
    """Whether an entry has all files with which it was made, of the same sizes."""
    try:
        sizes: dict[str, int] = json.loads((entry / CONTENTS).read_text())
        return all((entry / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
