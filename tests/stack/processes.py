# SPDX-License-Identifier: Apache-2.0
"""The stack's processes, to be found and held up."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from stack.local import LocalStack


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing while the block runs; it may be killed meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def named(stack: LocalStack, words: str) -> list[psutil.Process]:
    """Processes of the stack whose command line begins with these words."""
    found = []
    for process in stack.processes():
        with suppress(psutil.Error):
            program = " ".join(process.cmdline())
            if program.startswith(words) or process.name() == words:
                found.append(process)
    return found
