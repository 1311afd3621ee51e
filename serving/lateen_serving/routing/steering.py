# SPDX-License-Identifier: Apache-2.0
"""Tells the router behind a Ray Serve handle which strategy to follow. Called by the gateway before it calls a model.

Ray Serve 2.60 has no way to tell a live router anything: its class and arguments are part of a deployment's code version,
and another version means other replicas. The router is in this process, behind private attributes of the handle.
"""

from typing import Any

from ray.serve.handle import DeploymentHandle

from lateen_api.scaling import RoutingStrategy


def steer(handle: DeploymentHandle[Any], strategy: RoutingStrategy) -> None:
    """Let `handle`'s router follow `strategy`; one that was not made yet is told at the next call."""
    asyncio_router = getattr(getattr(handle, "_router", None), "_asyncio_router", None)
    # Not the property `request_router`: it would make a router where there is none yet.
    router = getattr(asyncio_router, "_request_router", None)
    # By its method and not by its class: one that Ray has pickled by value is another class.
    follow = getattr(router, "follow", None)
    if follow is not None:
        follow(strategy)
