# SPDX-License-Identifier: Apache-2.0
"""Calls that go on although nobody waits for them any more, so that what becomes of them is counted. Held by
`context.Service`, used by `reranking.py`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from lateen_serving.errors import ServiceError

MOST = 32
"""Calls that may go on at once in a gateway replica; beyond them a call ends with the wait for it."""

ResultT = TypeVar("ResultT")


class LeftBehind:
    """The calls that were left behind. For one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def wait(self, work: Coroutine[Any, Any, ResultT], deadline: float) -> ResultT | None:
        """The result of `work`, which goes on if it is not there by `deadline` (of the loop's clock): None then.

        `work` must end by itself. Where the caller is cancelled, or too many go on already, it is stopped.
        """
        task = asyncio.create_task(work)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(task)
        except TimeoutError:
            if task.done():  # it ended in that moment, perhaps by a timeout of its own
                return task.result()
            if len(self._tasks) < MOST:
                self._tasks.add(task)
                task.add_done_callback(self._ended)
            else:
                await _stop(task)
            return None
        except asyncio.CancelledError:
            await _stop(task)
            raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServiceError):  # those were counted as what they are
            what = {"message": "a call that was left behind failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(what)


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
