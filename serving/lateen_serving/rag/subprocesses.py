# SPDX-License-Identifier: Apache-2.0
"""Runs a command with bounds on time and file size. Called by `git.py`."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

_BLOCK = 512
"""Bytes of a block of the shell's `ulimit -f`."""


class Failed(Exception):
    """The command ended with an error or had to be ended.

    Attributes:
        printed: What it printed on stderr.

    """

    def __init__(self, message: str, printed: str = "") -> None:
        super().__init__(message)
        self.printed = printed


async def run(
    command: Sequence[str], environment: Mapping[str, str], *, given: bytes, limit: float, file_bytes: int
) -> bytes:
    """What `command` prints on stdout when fed `given`; raises Failed.

    It is ended with all its children after `limit` seconds; none of them can write a file beyond `file_bytes`.
    """
    limited = ("/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(file_bytes // _BLOCK), *command)
    process = await asyncio.create_subprocess_exec(
        *limited,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit):
            printed, complaints = await process.communicate(given)
    except TimeoutError as error:
        raise Failed(f"{command[0]} did not end within {limit:g} s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        message = f"{command[0]} ended with {process.returncode}"
        raise Failed(message, complaints.decode("utf-8", "replace"))
    return printed
