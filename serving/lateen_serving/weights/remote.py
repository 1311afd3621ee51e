# SPDX-License-Identifier: Apache-2.0
"""What a remote source is to the cache: something that says what it holds, then fills a folder with it.

Implemented by `hub.py`, `bucket.py`, `web.py` and `registry.py`; called by `source.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol

from lateen_serving.errors import LoadError
from lateen_serving.weights import archives
from lateen_serving.weights.quota import Room

_AT_ONCE = 4
"""Files that are fetched at the same time."""


@dataclass(frozen=True)
class Part:
    """One thing to fetch: a file of the model, or an archive of files."""

    name: str
    """Relative name of the file, or of the archive in the scratch folder."""

    address: str
    """How the source finds it."""

    version: str = ""
    """What changes with the content: an entity tag, a commit, a checksum."""

    size: int | None = None
    """Bytes, where the source says so."""

    sha256: str | None = None
    """Of the content, in hexadecimal, where the source says so."""

    archive: bool = False
    """Whether it is to be unpacked."""


@dataclass(frozen=True)
class Survey:
    """What a source holds now."""

    parts: tuple[Part, ...]

    place: str = ""
    """What of the source's place is not in its uri, such as a store's endpoint."""

    @property
    def identity(self) -> tuple[str, ...]:
        """The same for the same content."""
        return (self.place, *self._contents())

    def _contents(self) -> tuple[str, ...]:
        return tuple(f"{part.name} {part.version} {part.size} {part.sha256}" for part in self.parts)

    @property
    def size(self) -> int | None:
        """Bytes to fetch; None where the source does not say. What is unpacked needs its room again."""
        sizes = [part.size for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)


class Remote(Protocol):
    """A source that is not a folder of the node."""

    async def survey(self) -> Survey:
        """What is there, and whether it is a model; raises LoadError."""
        ...

    async def fill(self, survey: Survey, folder: Path, room: Room) -> list[str]:
        """Put the parts into `folder`, keeping complete ones that are there; the names in archives it left out.

        Raises LoadError, CacheFull when it takes more than `room` gives, and OSError when the disk fails.
        """
        ...


async def each(parts: Iterable[Part], fetch: Callable[[Part], Awaitable[None]]) -> None:
    """Fetch parts, some at the same time; the first failure ends all and is raised."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(part: Part) -> None:
        async with gate:
            await fetch(part)

    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(one(part))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def save(chunks: AsyncIterator[bytes], part: Part, folder: Path, where: str, room: Room) -> None:
    """Write a part's content under its name, which appears only when size and checksum are right.

    Raises LoadError DigestMismatch, SourceUnavailable when it is cut short, CacheFull when it takes more than `room`
    gives, and OSError when the disk fails.
    """
    target = folder / part.name
    partial = target.with_name(f".{target.name}.part")
    await asyncio.to_thread(partial.parent.mkdir, parents=True, exist_ok=True)
    digest, size = sha256(), 0
    room.give_back(partial)
    with _opened(partial) as file:
        async for chunk in chunks:
            size += len(chunk)
            if part.size is not None and size > part.size:
                break
            await asyncio.to_thread(_write, room, file.write, digest.update, chunk)
    _check(part, size, digest.hexdigest(), where)
    await asyncio.to_thread(partial.replace, target)


def _check(part: Part, size: int, digest: str, where: str) -> None:
    if part.sha256 is not None and size == (part.size or size) and digest != part.sha256:
        raise LoadError(
            f"{where}: {part.name} has SHA-256 {digest}, expected is {part.sha256}",
            code="DigestMismatch",
        )
    if part.size is not None and size != part.size:
        raise LoadError(
            f"{where}: {part.name} broke off after {size} of {part.size} bytes", code="SourceUnavailable"
        )


async def unpack(part: Part, folder: Path, where: str, room: Room) -> list[str]:
    """Unpack an archive that `save` has written, as `archives.unpack`; nothing is written after a cancellation."""
    work = asyncio.create_task(asyncio.to_thread(archives.unpack, folder / part.name, folder, where, room))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        room.stop()
        await asyncio.wait({work})
        raise


def _opened(path: Path) -> BinaryIO:
    """Opens at once: in a thread, a cancelled caller would never see the file to close it."""
    return path.open("wb")


def _write(
    room: Room, write: Callable[[bytes], object], update: Callable[[bytes], object], chunk: bytes
) -> None:
    room.take(len(chunk))
    write(chunk)
    update(chunk)


def is_complete(part: Part, folder: Path) -> bool:
    """Whether an earlier attempt has finished this part: its name exists only then."""
    return (folder / part.name).is_file()
