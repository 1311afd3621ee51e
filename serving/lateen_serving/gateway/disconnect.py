# SPDX-License-Identifier: Apache-2.0
"""Stops work for clients that have gone. Called by `ingress.py` once a request's body has been read."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

ResultT = TypeVar("ResultT")


async def guard(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`; cancels it and raises ClientDisconnect when the client goes away first.

    The work runs in the request's own task, in the way of `asyncio.timeout`, because every request would pay for
    another one. Its clean-up (stopping the replica) is finished before this is.
    """
    task = asyncio.current_task()
    assert task is not None
    has_left = is_done = False

    def leave(_watch: asyncio.Task[None]) -> None:
        nonlocal has_left
        if (
            is_done
        ):  # it left in the moment in which the work ended: whoever sends the result sees that it has gone
            return
        has_left = True
        task.cancel()

    leaving = asyncio.create_task(_gone(request))
    leaving.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        is_done = True
        leaving.remove_done_callback(leave)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
