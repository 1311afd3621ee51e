# SPDX-License-Identifier: Apache-2.0
"""How a routed request turns out. Called by `routers.py`, because Ray tells a router that a request is over, not how.

Ray Serve 2.60 sends errors as messages of the gRPC stream (`ASGIResponse.is_error`), on which it has no hook. With
requests that go through Ray's actor calls instead (without `RAY_SERVE_THROUGHPUT_OPTIMIZED`) nothing is seen.
"""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from ray import cloudpickle
from ray.serve._private.replica_result import ReplicaResult

from lateen_serving.errors import Category, ServiceError

_FAULTS_OF_REPLICAS = (Category.MODEL, Category.INFRASTRUCTURE)


def watch(result: ReplicaResult, failed: Callable[[bool], None]) -> None:
    """Call `failed` when whoever reads `result` comes upon an error; at most once.

    It is told whether the replica is to blame, or the request.
    """
    receive: Any = getattr(result, "_get_internal", None)
    if receive is None:
        return
    has_failed = False

    def tell(is_to_blame: bool) -> None:
        nonlocal has_failed
        if not has_failed:
            has_failed = True
            failed(is_to_blame)

    async def watched() -> Any:
        try:
            message = await receive()
        except (StopAsyncIteration, CancelledError):
            raise
        except Exception:
            tell(True)
            raise
        if getattr(message, "is_error", False):
            tell(_is_to_blame(message.serialized_message))
        return message

    result._get_internal = watched  # type: ignore[attr-defined]  # shadows the method of this one result


def _is_to_blame(serialized: bytes) -> bool:
    """Whether an error, as Ray sends it, is the replica's fault; one that can't be read is."""
    try:
        error = cloudpickle.loads(serialized)
    except Exception:  # noqa: BLE001 - Ray raises the same to the caller, who reports it
        return True
    cause = getattr(error, "cause", error)
    return not isinstance(cause, ServiceError) or cause.category in _FAULTS_OF_REPLICAS
