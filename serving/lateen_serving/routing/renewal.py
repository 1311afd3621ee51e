# SPDX-License-Identifier: Apache-2.0
"""Whether a handle still routes as its deployment wants it to. Called by the gateway before it calls a model.

Ray Serve 2.60 tells each handle at once that the deployment has another router class, but a handle that has made its
router keeps it for ever. A new handle makes the new one; the old one goes on for the requests it has.
"""

from ray.serve.handle import DeploymentHandle


def is_outdated(handle: DeploymentHandle[object]) -> bool:
    """Whether `handle` has a router of another class than its deployment's config names now."""
    asyncio_router = getattr(getattr(handle, "_router", None), "_asyncio_router", None)
    # Not the property `request_router`: it would make a router where there is none yet.
    present = getattr(asyncio_router, "_request_router", None)
    wanted = getattr(asyncio_router, "_request_router_class", None)
    return present is not None and wanted is not None and type(present) is not wanted
