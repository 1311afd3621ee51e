# SPDX-License-Identifier: Apache-2.0
"""What happens before the first call of an application: Ray's router is made, and told how to route."""

import asyncio
from types import SimpleNamespace
from typing import Any

from unit.test_gateway_handles import Served, served

__all__ = ["served"]


async def test_the_first_call_follows_the_strategy_too(served: Served) -> None:
    """It is sent when Ray has made the router of the application's handle, and that was told the strategy."""
    models, handle = served(["reply"])
    told: list[str] = []
    router: Any = SimpleNamespace(
        _event_loop=asyncio.get_running_loop(),
        _request_router=None,
        _request_router_initialized=asyncio.Event(),
    )
    vars(handle)["_router"] = SimpleNamespace(_asyncio_router=router)
    models.keep({"app": "PrefixAware"})
    calling = asyncio.create_task(models.embed("app", ["a"]))
    await models._handle("app")
    for _ in range(9):
        await asyncio.sleep(0)
    assert handle.calls == []
    router._request_router = SimpleNamespace(follow=told.append)
    router._request_router_initialized.set()
    reply: Any = await calling
    assert (reply, told) == ("reply", ["PrefixAware"])
