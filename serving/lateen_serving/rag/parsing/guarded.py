# SPDX-License-Identifier: Apache-2.0
"""Parses files within bounds of time and memory. Called by `tasks.py` inside a Ray task: Linux, main thread only.

A file that goes beyond its bounds is refused and the next one is parsed. What C code does to the process itself (a
crash, an endless loop that never returns to Python) is the caller's to notice: see `isolation.py`.
"""

import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lateen_serving.rag.parsing.parsed import Outcome, ParseFailure, Raw, Refused

SECONDS = 120.0
"""Longest time of one file: a PDF of some thousand pages takes as long."""

MEMORY = 1 << 30
"""Bytes that parsing may take beyond what the process has."""


@dataclass(frozen=True)
class Bounds:
    """What parsing may take."""

    seconds: float = SECONDS
    """Per file."""

    batch_seconds: float = SECONDS
    """No file is begun after this time."""

    memory: int = MEMORY
    """Bytes per file, beyond what the process has."""

    @property
    def longest(self) -> float:
        """Seconds after which a batch has surely ended, unless the process hangs."""
        return self.batch_seconds + self.seconds


class _Expired(BaseException):
    """Time is up; no parser's `except Exception` may take it for its own."""


def parse(batch: Sequence[Raw], bounds: Bounds, parser: Callable[[Raw], Outcome]) -> list[Outcome]:
    """What became of the first files of `batch`: at least one, and all unless time runs out."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for raw in batch:
        if outcomes and time.monotonic() - began > bounds.batch_seconds:
            break
        outcomes.append(_outcome(raw, bounds, parser))
    return outcomes


def _outcome(raw: Raw, bounds: Bounds, parser: Callable[[Raw], Outcome]) -> Outcome:
    try:
        with _memory(bounds.memory), _time(bounds.seconds):
            return parser(raw)
    except ParseFailure as failure:
        return Refused(failure.reason, str(failure))
    except _Expired:
        return Refused("TooComplex", f"reading it takes more than {bounds.seconds:g} s")
    except MemoryError:
        return Refused("TooComplex", f"reading it takes more than {bounds.memory >> 20} MiB of memory")
    except RecursionError:
        return Refused("Bomb", "it is nested too deeply")
    except Exception as error:  # noqa: BLE001 - whatever a library raises over one file must not end the others
        # A file is read from memory: what the machine lacks is no fault of the file.
        is_ours = isinstance(error, ImportError | OSError)
        return Refused("Crashed" if is_ours else "Malformed", f"it can't be read: {type(error).__name__}")


@contextmanager
def _memory(allowed: int) -> Iterator[None]:
    """Bounds the address space to what the process has now and `allowed` bytes more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft = pages * resource.getpagesize() + allowed
    if before[1] != resource.RLIM_INFINITY:
        soft = min(soft, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _time(allowed: float) -> Iterator[None]:
    def expire(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, allowed)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
