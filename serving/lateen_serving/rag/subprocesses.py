# SPDX-License-Identifier: Apache-2.0
"""Runs a command with bounds on time, file size and output. Called by `git.py`."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

_BLOCK = 512
"""Bytes of a block of the shell's `ulimit -f`."""

_PIECE = 2**16
"""Bytes of the output that are read at once."""


class Failed(Exception):
    """The command ended with an error or had to be ended.

    Attributes:
        printed: What it printed on stderr.

    """

    def __init__(self, message: str, printed: str = "") -> None:
        super().__init__(message)
        self.printed = printed


class TooMuch(Failed):
    """The command printed more than it may and was ended."""


async def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    given: bytes,
    limit: float,
    file_bytes: int,
    most: int,
) -> bytes:
    """What `command` prints on stdout when fed `given`; raises Failed.

    It is ended with all its children after `limit` seconds, and when it prints more than `most` bytes (TooMuch); none
    of them can write a file beyond `file_bytes`.
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
            printed, complaints = await _exchange(process, given, most)
    except TimeoutError as error:
        raise Failed(f"{command[0]} did not end within {limit:g} s") from error
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        message = f"{command[0]} ended with {process.returncode}"
        raise Failed(message, complaints.decode("utf-8", "replace"))
    return printed


async def _exchange(process: Process, given: bytes, most: int) -> tuple[bytes, bytes]:
    """Feed the process and collect what it prints on stdout and on stderr until it ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(process.stdin, given))
        printed = group.create_task(_collected(process.stdout, most))
        complaints = group.create_task(_collected(process.stderr, most))
    await process.wait()
    return printed.result(), complaints.result()


async def _feed(stdin: asyncio.StreamWriter, given: bytes) -> None:
    try:
        stdin.write(given)
        await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended without reading all of it; why, its exit status says
    stdin.close()


async def _collected(stream: asyncio.StreamReader, most: int) -> bytes:
    pieces = bytearray()
    while piece := await stream.read(_PIECE):
        pieces += piece
        if len(pieces) > most:
            raise TooMuch(f"it printed more than {most >> 20} MiB")
    return bytes(pieces)
