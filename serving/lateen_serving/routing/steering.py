# SPDX-License-Identifier: Apache-2.0
"""Tells the router behind a Ray Serve handle which strategy to follow. Called by the gateway before it calls a model.

Ray Serve 2.60 has no way to tell a live router anything: its class and arguments are part of a deployment's code version,
and another version means other replicas. The router is in this process, behind private attributes of the handle. Ray makes
it when the Serve controller has told the handle of the deployment, and lets every request wait for that.
"""

import asyncio
from typing import Any

from ray.serve.handle import DeploymentHandle

from lateen_api.scaling import RoutingStrategy


async def steered(handle: DeploymentHandle[Any], strategy: RoutingStrategy) -> None:
    """Let `handle`'s router follow `strategy`. Waits for a router that was not made yet, so that its first request follows
    too; as long as the caller has patience, as the request itself would.
    """
    asyncio_router = getattr(getattr(handle, "_router", None), "_asyncio_router", None)
    # Not the property `request_router`: it would make a router where there is none yet.
    if getattr(asyncio_router, "_request_router", None) is None:
        await _made(asyncio_router)
    # By its method and not by its class: one that Ray has pickled by value is another class.
    follow = getattr(getattr(asyncio_router, "_request_router", None), "follow", None)
    if follow is not None:
        follow(strategy)


async def _made(asyncio_router: Any) -> None:
    """Wait until the router is there, where it is this loop's: another loop's event can't be waited for."""
    if getattr(asyncio_router, "_event_loop", None) is asyncio.get_running_loop():
        await asyncio_router._request_router_initialized.wait()
