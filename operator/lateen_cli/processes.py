# SPDX-License-Identifier: Apache-2.0
"""Which processes belong to a stack, and how they end.

Membership is the environment variable `LATEEN_STACK`, which every process inherits from the one that started
it: HAProxy, Ray's workers and jobs included, also when their parents are gone. Processes are told from later
ones with the same pid by their start time. `supervisor.py` and `lateen down` are the callers.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

from lateen_cli.state import MARKER, Process

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL where nothing else is said."""

Gone = (psutil.NoSuchProcess, psutil.ZombieProcess)


def identify(pid: int) -> Process:
    """The process that has this pid now; psutil.NoSuchProcess where none has."""
    return Process(pid=pid, created=psutil.Process(pid).create_time())


def alive(process: Process) -> psutil.Process | None:
    """The process, if exactly this one still runs."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.created) < 0.05 and found.status() != psutil.STATUS_ZOMBIE:
            return found
    return None


def belonging(stack_id: str) -> list[psutil.Process]:
    """Processes of this user with the stack's marker, this process and its parents excepted."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        # Another user's process, or one that ended during the scan, cannot be read and is not ours.
        with suppress(psutil.AccessDenied, OSError, *Gone):
            if process.pid not in own and process.environ().get(MARKER) == stack_id:
                found.append(process)
    return found


def session(leader: int) -> list[psutil.Process]:
    """What runs in the session a part's first process made; to be asked while that part is the last to have it."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, *Gone):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], grace: float = GRACE) -> None:
    """SIGTERM, then SIGKILL for what is left after `grace` seconds; returns when all are gone."""
    listed = list(processes)
    for process in listed:
        with suppress(*Gone):
            process.terminate()
    _, left = psutil.wait_procs(listed, timeout=grace)
    for process in left:
        with suppress(*Gone):
            process.kill()
    psutil.wait_procs(left, timeout=GRACE)


def sweep(
    stack_id: str, grace: float = GRACE, find: Callable[[str], list[psutil.Process]] = belonging
) -> int:
    """End every process of a stack, those that appear meanwhile included; how many there were.

    TimeoutError where processes outlive SIGKILL for a minute.
    """
    ended: set[tuple[int, float]] = set()
    deadline = time.monotonic() + 60
    while left := find(stack_id):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise TimeoutError(f"These processes do not end: {pids}")
        for process in left:
            with suppress(*Gone):
                ended.add((process.pid, process.create_time()))
        end(left, grace)
        grace = 0.5
    return len(ended)


def memory(process: psutil.Process) -> int:
    """Bytes used by a process and its descendants, shared pages counted once where the system says so."""
    total = 0
    with suppress(psutil.AccessDenied, *Gone):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.AccessDenied, *Gone):
                full = member.memory_full_info()
                total += int(getattr(full, "pss", full.rss))
    return total
