# SPDX-License-Identifier: Apache-2.0
"""Reads files in a plain child process: what a Ray task is to an index build. Some files of the tests harm it."""

import asyncio
import errno
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType

from lateen_serving.rag.parsing import guarded, reading
from lateen_serving.rag.parsing.guarded import Bounds
from lateen_serving.rag.parsing.isolation import Died
from lateen_serving.rag.parsing.parsed import Outcome, Parsed, Raw


class ProcessRunner:
    """An `isolation.Runner` with one process at a time; a context manager, so that none stays."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._pool = self._new()

    @staticmethod
    def _new() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def __enter__(self) -> "ProcessRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    async def run(self, batch: Sequence[Raw], bounds: Bounds, seconds: float) -> list[Outcome]:
        self.batches.append(len(batch))
        work = asyncio.get_running_loop().run_in_executor(self._pool, _parse, list(batch), bounds)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(work)
        except TimeoutError as error:
            self._renew()
            await asyncio.wait([work])
            work.exception()
            raise Died("late", late=True) from error
        except BrokenProcessPool as error:
            self._renew()
            raise Died("killed") from error

    def _renew(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown()
        self._pool = self._new()


def _parse(batch: list[Raw], bounds: Bounds) -> list[Outcome]:
    return guarded.parse(batch, bounds, _read)


def _read(raw: Raw) -> Parsed:
    """Read a file; some names stand for what a library may do to its process."""
    if raw.path == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    if raw.path == "hangs":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        signal.sigwait({signal.SIGUSR1})
    if raw.path == "spins":
        while True:
            pass
    if raw.path == "grows":
        held = []
        while True:
            held.append(bytearray(1 << 20))
    if raw.path == "recurses":
        return _read(raw)
    if raw.path == "lacks":
        raise ModuleNotFoundError("a library")
    if raw.path == "starves":
        raise OSError(errno.EMFILE, "too many open files")
    if raw.path == "surprises":
        raise OverflowError
    return reading.parse(raw)
