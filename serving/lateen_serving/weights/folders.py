# SPDX-License-Identifier: Apache-2.0
"""Where things lie in the cache of weights, and how large they are. Called by `cache.py` and `quota.py`."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONTENTS = ".contents.json"
"""In a complete folder: names and sizes of its files."""


@dataclass(frozen=True)
class Folders:
    """The paths of one cache; drawn in `cache.py`."""

    root: Path

    @property
    def entries(self) -> Path:
        """Complete folders."""
        return self.root / "entries"

    @property
    def scratch(self) -> Path:
        """Folders that are being made or removed."""
        return self.root / "scratch"

    @property
    def locks(self) -> Path:
        """One file for each lock."""
        return self.root / "locks"

    @property
    def known(self) -> Path:
        """What sources meant last."""
        return self.root / "known"

    @property
    def books(self) -> Path:
        """The lock that is held, for moments, to count, to promise room and to publish."""
        return self.locks / "books"

    def make(self, key: str) -> Path:
        """The lock of the one that makes the entry `key`; it holds how many bytes are promised to it."""
        return self.locks / f"{key}.make"

    def use(self, key: str) -> Path:
        """The lock of those who use the entry `key`."""
        return self.locks / f"{key}.use"

    def remove(self, folder: Path) -> None:
        """Make `folder` disappear in one step, then delete what it held."""
        shutil.rmtree(self.put_away(folder), ignore_errors=True)

    def put_away(self, folder: Path) -> Path:
        """Make `folder` disappear in one step; what there is to delete now."""
        gone = self.scratch / f".gone-{os.getpid()}-{time.monotonic_ns()}"
        with suppress(FileNotFoundError):
            folder.rename(gone)
        return gone


def size(folder: Path) -> int:
    """Bytes of the files below `folder`, which may change or vanish meanwhile; its list of contents is not counted."""
    found = _found(folder)
    return sum(
        about.st_size for path, about in found if stat.S_ISREG(about.st_mode) and path.name != CONTENTS
    )


def age(folder: Path) -> float:
    """Seconds since the last change below `folder`; 0 when it is gone."""
    newest = max((about.st_mtime for _, about in _found(folder)), default=None)
    return 0.0 if newest is None else time.time() - newest


def _found(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """`folder` and all below it that is still there when it is looked at."""
    for place, _, names in os.walk(folder, onerror=_unless_gone):
        for path in (Path(place), *(Path(place, name) for name in names)):
            with suppress(FileNotFoundError):
                yield path, path.lstat()


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
