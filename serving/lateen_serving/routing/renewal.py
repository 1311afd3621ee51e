# SPDX-License-Identifier: Apache-2.0
"""Handles whose deployment wants another router by now. Called by the gateway before it calls a model.

Ray Serve 2.60 tells each handle at once that the deployment has another router class, but a handle that has made its
router keeps it for ever. A new handle makes the new one; the old one goes on for the requests it has.
"""

import asyncio
import logging
from typing import Any

from ray.serve.handle import DeploymentHandle

_log = logging.getLogger(__name__)
_RETIRE_SECONDS = 1.0


def is_outdated(handle: DeploymentHandle[Any]) -> bool:
    """Whether `handle` has a router of another class than its deployment's config names now."""
    asyncio_router = getattr(getattr(handle, "_router", None), "_asyncio_router", None)
    # Not the property `request_router`: it would make a router where there is none yet.
    present = getattr(asyncio_router, "_request_router", None)
    wanted = getattr(asyncio_router, "_request_router_class", None)
    return present is not None and wanted is not None and _name(type(present)) != _name(wanted)


def _name(kind: Any) -> tuple[str, str]:
    """What a class is called: one that Ray pickled by value is another object each time."""
    return kind.__module__, kind.__qualname__


async def retire(handle: DeploymentHandle[Any]) -> None:
    """End the reports of `handle` to the autoscaler; requests that it holds or has sent go on. Never raises."""
    try:
        async with asyncio.timeout(_RETIRE_SECONDS):
            await handle.shutdown_async()  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - whatever Ray raises, the request goes on
        _log.exception("a handle's reports to the autoscaler go on")
