# SPDX-License-Identifier: Apache-2.0
"""Fills a folder in a process of its own, for code that can't be stopped otherwise. Called by `gguf.py` and `hub.py`.

The child (`python -m MODULE ARGUMENTS`, see `serve`) ends when it takes too much of the disk, when its parent is
cancelled and, because its standard input closes, when its parent dies: nobody writes into a folder that is no longer
its own.
"""

import asyncio
import errno
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lateen_serving.errors import LoadError
from lateen_serving.weights import folders, quota
from lateen_serving.weights.quota import Room

_LOOK_SECONDS = 0.2
"""Between two looks at how large the folder has become: by what is written meanwhile it may grow too large."""

_BROKEN, _REFUSED, _DISK_FULL = 1, 2, 3
_MOST_LETTERS = 400
_TAIL_BYTES = 2**16
_BLOCK = 2**16


@dataclass(frozen=True)
class Failed(Exception):
    """What the child raised and is no LoadError."""

    words: str
    """Class and text of the exception, shortened."""

    killed: bool
    """Whether a signal ended it."""


async def run(module: str, arguments: Sequence[str], folder: Path, room: Room, order: str = "") -> None:
    """Run the child until it has filled `folder`; `order`, one line, reaches it where no other process sees it.

    Raises the LoadError that the child raised, CacheFull when `folder` outgrows `room`, OSError when the disk is full,
    and Failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        process.stdin.write(f"{order}\n".encode())
        printed = await _guarded(process.stderr, folder, room)
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise _meant(status, printed)


async def _guarded(errors: asyncio.StreamReader, folder: Path, room: Room) -> str:
    """The end of what the child prints until it ends, while its folder is kept within `room`."""
    reading = asyncio.create_task(_tail(errors))
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=_LOOK_SECONDS)
            await asyncio.to_thread(lambda: room.reach(folders.size(folder)))
        return await reading
    finally:
        reading.cancel()


async def _tail(stream: asyncio.StreamReader) -> str:
    printed = b""
    while block := await stream.read(_TAIL_BYTES):
        printed = (printed + block)[-_TAIL_BYTES:]
    return printed.decode("utf-8", "replace")


def _meant(status: int, printed: str) -> Exception:
    last = (printed.strip().splitlines() or [""])[-1]
    if status == _DISK_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if status == _REFUSED:
        code, _, message = last.partition(" ")
        return LoadError(message, code=code)
    return Failed(last[:_MOST_LETTERS], status < 0)


def serve(work: Callable[[str], None]) -> int:
    """The child's side: do `work` with the order; the exit status that `run` understands."""
    logging.disable(logging.WARNING)
    order = _line()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(order)
    except LoadError as error:
        sys.stderr.write(f"\n{error.code} {' '.join(error.message.split())}\n")
        return _REFUSED
    except Exception as error:  # noqa: BLE001 - the parent makes it an error with words of its own
        sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())}\n")
        return _DISK_FULL if isinstance(error, OSError) and quota.is_full(error) else _BROKEN
    return 0


def _line() -> str:
    """The first line of the standard input; not through sys.stdin: its lock, held at the end, would abort us."""
    line = b""
    while not line.endswith(b"\n") and (block := os.read(0, _BLOCK)):
        line += block
    return line.decode().removesuffix("\n")


def _end_with_parent() -> None:
    while os.read(0, _BLOCK):
        pass
    os._exit(_BROKEN)
