# SPDX-License-Identifier: Apache-2.0
"""Unpacks a model's files from a tar or zip archive that is not trusted. Called by `web.py` and `registry.py`.

Only regular files whose names belong to a model are written, below the target folder; the archive's own modes,
owners, links and devices are never made.
"""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lateen_api.digests import model_files
from lateen_serving.errors import LoadError
from lateen_serving.weights.quota import Room
from lateen_serving.weights.selection import MOST_FILES, check_name

MOST_BYTES = 4 * 2**40
"""Bytes that all members of one archive may have when unpacked."""

LONGEST_HEADER = 2**20
"""Bytes of a tar header that says more of the next member, such as a long name."""

_BLOCK = 2**20
_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
_MARKS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, where: str, room: Room) -> list[str]:
    """Write the archive's model files into `folder`; the names of the files it left out.

    Where everything lies in one top folder, that folder's name is dropped. Blocks; runs in a thread. Raises
    LoadError SourceRefused for links, names that leave the folder and too much content, CacheFull beforehand when
    `room` gives too little, and OSError when the disk fails.
    """
    try:
        with _opened(archive) as members:
            return _unpack(_checked(members, where), folder, where, room)
    except _BROKEN as error:
        raise LoadError(f"{where} is a broken archive: {error}", code="ModelUnsupported") from error


def _unpack(members: Sequence[_Member], folder: Path, where: str, room: Room) -> list[str]:
    top = _top([member.name for member in members])
    by_name = {member.name.removeprefix(top): member for member in members}
    taken = model_files(by_name)
    for name in taken:
        room.give_back(folder / name)
    room.expect(sum(by_name[name].size for name in taken))
    for name in taken:
        _write(by_name[name], folder / name, where, room)
    return sorted(by_name.keys() - set(taken))


def _write(member: _Member, target: Path, where: str, room: Room) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    if source is None:
        raise LoadError(f"{where}: {member.name} is no file", code="SourceRefused")
    with source, target.open("wb") as file:
        while block := source.read(_BLOCK):
            room.take(len(block))
            file.write(block)
    if target.stat().st_size != member.size:
        raise LoadError(f"{where}: {member.name} is cut short", code="ModelUnsupported")


def _checked(members: Iterator[_Member], where: str) -> list[_Member]:
    """All members, none of them dangerous; stops reading the archive at the first that is."""
    found: list[_Member] = []
    total = 0
    for member in members:
        check_name(member.name, where)
        total += member.size
        if len(found) >= MOST_FILES or total > MOST_BYTES:
            raise LoadError(
                f"{where} unpacks to more than {MOST_FILES} files or {MOST_BYTES >> 40} TiB",
                code="SourceRefused",
            )
        found.append(member)
    return found


def _top(names: Sequence[str]) -> str:
    """`folder/` if all files lie in that one folder, else nothing."""
    first, separator, _ = names[0].partition("/") if names else ("", "", "")
    top = first + separator
    if not separator or any(mark in names for mark in _MARKS):
        return ""
    return top if all(name.startswith(top) for name in names) else ""


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _of_zip(zipped, archive.name)
        return
    with tarfile.open(archive, "r:*", tarinfo=_BoundedInfo) as tar:
        yield _of_tar(tar)


class _BoundedInfo(tarfile.TarInfo):
    """A header; `tarfile` reads headers that extend the next one whole, however long they say they are."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        extends = self.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE)
        if extends and self.size > LONGEST_HEADER:
            raise tarfile.ReadError("a header is too long")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]  # not in its stubs
        return found


def _of_tar(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            continue
        if not info.isreg():
            raise _link(info.name)
        yield _Member(_plain(info.name), info.size, lambda info=info: tar.extractfile(info))  # type: ignore[misc]


def _of_zip(zipped: zipfile.ZipFile, name: str) -> Iterator[_Member]:
    if len(zipped.infolist()) > MOST_FILES:
        raise LoadError(f"{name} holds more than {MOST_FILES} files", code="SourceRefused")
    for info in zipped.infolist():
        if info.is_dir():
            continue
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            raise _link(info.filename)
        yield _Member(_plain(info.filename), info.file_size, lambda info=info: zipped.open(info))  # type: ignore[misc]


def _plain(name: str) -> str:
    """`./a` is `a`: tar writes names so when it is given a folder."""
    return name.removeprefix("./")


def _link(name: str) -> LoadError:
    return LoadError(
        f"the archive's {name[:80]!r} is a link or device; pack plain files", code="SourceRefused"
    )
