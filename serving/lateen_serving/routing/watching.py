# SPDX-License-Identifier: Apache-2.0
"""How a routed request turns out. Called by `routers.py`, because Ray tells a router that a request is over, not how.

Ray Serve 2.60 sends errors as messages of the gRPC stream (`ASGIResponse.is_error`), on which it has no hook. With
requests that go through Ray's actor calls instead (without `RAY_SERVE_THROUGHPUT_OPTIMIZED`) nothing is seen.
"""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from ray.serve._private.replica_result import ReplicaResult


def watch(result: ReplicaResult, failed: Callable[[], None]) -> None:
    """Call `failed` when whoever reads `result` comes upon an error; at most once."""
    receive: Any = getattr(result, "_get_internal", None)
    if receive is None:
        return
    has_failed = False

    def tell() -> None:
        nonlocal has_failed
        if not has_failed:
            has_failed = True
            failed()

    async def watched() -> Any:
        try:
            message = await receive()
        except (StopAsyncIteration, CancelledError):
            raise
        except Exception:
            tell()
            raise
        if getattr(message, "is_error", False):
            tell()
        return message

    result._get_internal = watched  # type: ignore[attr-defined]  # shadows the method of this one result
