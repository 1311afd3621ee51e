# SPDX-License-Identifier: Apache-2.0
"""Finds and reads files below a folder without ever leaving it. Called by `sources.py` and `git.py`.

Links are followed only to targets inside the boundary; only regular files are opened (a pipe would block).
"""

import asyncio
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lateen_serving.rag.protocol import SourceFailure

MAX_FILES = 20_000
"""Files taken from one source."""

MAX_ENTRIES = 500_000
"""Names looked at in one source."""

MAX_BYTES = 4 * 2**30
"""Bytes of the files of one source."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that was found. There may be hundreds of thousands of them in memory."""

    path: str
    """Below the folder, with `/`."""

    size: int
    real: str
    """Where it is; free of links when it was found."""


@dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    files: list[File] = field(default_factory=list)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Paths that were asked for but must not be read, with the reason."""


def listing(root: Path, takes: Callable[[str], bool], boundary: Path | None = None) -> Listing:
    """The files below `root` that `takes` wants, sorted by path; raises SourceFailure beyond the bounds.

    `boundary` (default: `root`) is the folder that nothing may lead out of.
    """
    limit = (boundary or root).resolve()
    if not root.resolve().is_relative_to(limit):
        raise SourceFailure("SourceRefused", "the path leads out of the volume")
    walk = _Walk(limit, takes)
    walk.run(root.resolve())
    return Listing(sorted(walk.files, key=lambda item: item.path), walk.refused)


class _Walk:
    """One walk over a tree; folders that links lead to twice are walked once."""

    def __init__(self, limit: Path, takes: Callable[[str], bool]) -> None:
        self._limit = limit
        self._takes = takes
        self._seen: set[Path] = set()
        self._entries = 0
        self._bytes = 0
        self.files: list[File] = []
        self.refused: dict[str, str] = {}

    def run(self, root: Path) -> None:
        folders = [(root, "")]
        while folders:
            folder, prefix = folders.pop()
            if folder in self._seen:
                continue
            self._seen.add(folder)
            for name in sorted(_names(folder)):
                self._count()
                below = self._visit(folder / name, f"{prefix}{name}")
                if below is not None:
                    folders.append((below, f"{prefix}{name}/"))

    def _visit(self, found: Path, path: str) -> Path | None:
        """Take `found` if it is a wanted file; the real folder if it is one."""
        try:
            real = found.resolve(strict=True) if found.is_symlink() else found
            about = real.stat(follow_symlinks=False)
        except (OSError, RuntimeError) as error:
            self._refuse(path, f"it can't be read: {type(error).__name__}")
            return None
        if not real.is_relative_to(self._limit):
            self._refuse(path, "it is a link that leads out of the volume")
        elif stat.S_ISDIR(about.st_mode):
            return real
        elif stat.S_ISREG(about.st_mode) and self._takes(path):
            self._take(File(path, about.st_size, str(real)))
        return None

    def _take(self, item: File) -> None:
        self.files.append(item)
        self._bytes += item.size
        if len(self.files) > MAX_FILES:
            raise SourceFailure(
                "TooLarge", f"the source has more than {MAX_FILES} files; narrow include or path"
            )
        if self._bytes > MAX_BYTES:
            raise SourceFailure(
                "TooLarge", f"the source has more than {MAX_BYTES >> 30} GiB; narrow include or path"
            )

    def _refuse(self, path: str, message: str) -> None:
        if self._takes(path):
            self.refused[path] = message

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise SourceFailure("TooLarge", f"the source has more than {MAX_ENTRIES} names; narrow its path")


def _names(folder: Path) -> list[str]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise SourceFailure(
            "SourceUnavailable", f"a folder can't be listed: {type(error).__name__}"
        ) from error
    return [name for name in names if name.isprintable()]


async def read(item: File) -> bytes:
    """The content of a file; raises OSError when it is gone, grew, or is no regular file any more."""
    return await asyncio.to_thread(_read, item)


def _read(item: File) -> bytes:
    descriptor = os.open(item.real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError("it is not a file any more")
        data = stream.read(item.size + 1)
    if len(data) > item.size:
        raise OSError("it grew while it was read")
    return data
