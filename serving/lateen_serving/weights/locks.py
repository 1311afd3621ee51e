# SPDX-License-Identifier: Apache-2.0
"""Locks of the kernel on files that may be removed. Called by `cache.py` and `quota.py`.

They end with the process that holds them, however it dies. A file is removed only by who holds its lock alone, and who
gets a lock looks whether the file is still the one under that name: otherwise two could each hold "the" lock.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

_POLL_SECONDS = 0.2


def shared(path: Path) -> int:
    """A descriptor that holds `path` together with others. Blocks while somebody holds it alone."""
    return _held(path, fcntl.LOCK_SH)


def tried(path: Path) -> int | None:
    """A descriptor that holds `path` alone; None if somebody holds it."""
    try:
        return _held(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


@contextmanager
def briefly(path: Path) -> Iterator[None]:
    """Hold `path` alone. Blocks until nobody else does; for work of moments, in a thread. The file stays."""
    descriptor = _held(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def alone(path: Path) -> AsyncIterator[None]:
    """Hold `path` alone; others wait, and stop waiting when they are cancelled. The file is removed at the end."""
    while (descriptor := tried(path)) is None:  # noqa: ASYNC110 - the holder is another process
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        remove(path, descriptor)


def remove(path: Path, descriptor: int) -> None:
    """Remove the file of a lock that `descriptor` holds alone, and let it go."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _held(path: Path, way: int) -> int:
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, way)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed while we waited


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
