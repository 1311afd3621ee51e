# SPDX-License-Identifier: Apache-2.0
"""Stops work for clients that have gone. Called by `ingress.py` once a request's body has been read."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

ResultT = TypeVar("ResultT")


async def guard(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`; cancels it and raises ClientDisconnect when the client goes away first."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (leaving, working):
            task.cancel()
        # The work's own clean-up (stopping the replica) is finished before the request is.
        await asyncio.gather(leaving, working, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
