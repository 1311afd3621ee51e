# SPDX-License-Identifier: Apache-2.0
"""Replicas and a controller that are made up, around Ray's own router classes. Used by `test_routing_routers.py`."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorUnavailableError
from ray.serve._private import router as ray_router
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    ReplicaQueueLengthInfo,
    RequestMetadata,
)
from ray.serve._private.router import AsyncioRouter
from ray.serve._private.usage import ServeUsageTag

from lateen_api.scaling import RoutingStrategy
from lateen_serving.routing.routers import StrategyRouter

DEPLOYMENT = DeploymentID(name="model", app_name="app")


class FakeResult:
    """What Ray holds of a request that was sent: it is accepted or refused, and ends when the test says so."""

    def __init__(self, replica: "FakeReplica", *, accepted: bool) -> None:
        self._replica, self._accepted = replica, accepted
        self._callbacks: list[Callable[[Any], None]] = []
        self.is_over = False
        self.message: Any = SimpleNamespace(is_error=False)

    async def get_rejection_response(self) -> ReplicaQueueLengthInfo:
        await self._replica.answers.wait()
        return ReplicaQueueLengthInfo(self._accepted, self._replica.ongoing + self._replica.others)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def _get_internal(self) -> Any:
        return self.message

    def cancel(self) -> None:
        self.end()

    def end(self) -> None:
        """The request is over."""
        if self.is_over:
            return
        self.is_over = True
        self._replica.ongoing -= self._accepted
        for callback in self._callbacks:
            callback(None)


class FakeReplica:
    """A replica as a router sees it."""

    is_cross_language = False
    actor_id = None
    multiplexed_model_ids: frozenset[str] = frozenset()
    node_id = "node"
    availability_zone = None

    def __init__(self, name: str, most: int = 4) -> None:
        self.replica_id = ReplicaID(unique_id=name, deployment_id=DEPLOYMENT)
        self.max_ongoing_requests = most
        self.ongoing = 0
        self.others = 0
        self.probes = 0
        self.is_broken = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.results: list[FakeResult] = []

    def update_replica_info(self, info: "FakeReplica") -> None:
        """Ray hands over news of a known replica."""

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.probes += 1
        return self.ongoing + self.others

    def try_send_request(self, pending: Any, with_rejection: bool) -> FakeResult:
        if self.is_broken:
            raise ActorUnavailableError("gone", None)
        accepted = self.ongoing + self.others < self.max_ongoing_requests
        self.ongoing += accepted
        result = FakeResult(self, accepted=accepted)
        self.results.append(result)
        return result


class Harness:
    """Ray's AsyncioRouter, with the request router made by Ray's own code."""

    def __init__(self, strategy: RoutingStrategy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_router, "LongPollClient", lambda *_, **__: None)
        shared = SimpleNamespace(register=lambda _: None)
        monkeypatch.setattr(ray_router.SharedRouterLongPollClient, "get_or_create", lambda *_: shared)
        context = SimpleNamespace(get_actor_id=lambda: None, get_worker_id=lambda: "worker")
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(ray_router, "RunningReplica", lambda info: info)
        monkeypatch.setattr(ServeUsageTag.CUSTOM_REQUEST_ROUTER_USED, "record", lambda _: None)
        nobody: Any = None
        self._arguments: dict[str, Any] = {
            "controller_handle": nobody,
            "deployment_id": DEPLOYMENT,
            "handle_id": "handle",
            "self_actor_id": "actor",
            "handle_source": DeploymentHandleSource.REPLICA,
            "event_loop": asyncio.get_running_loop(),
            "enable_strict_max_ongoing_requests": True,
            "node_id": "node",
            "availability_zone": None,
            "prefer_local_node_routing": False,
        }
        self.ray = self.unmade()
        self.ray._request_router_class = StrategyRouter
        router = self.ray._active_request_router
        assert type(router) is StrategyRouter
        router.follow(strategy)
        self.router: StrategyRouter = router
        self.calls: list[asyncio.Task[Any]] = []

    def unmade(self) -> AsyncioRouter:
        """Ray's side of a handle that the controller has told nothing yet."""
        return AsyncioRouter(**self._arguments, _request_router_initialized_event=asyncio.Event())

    def have(self, *replicas: FakeReplica) -> None:
        """The controller says who runs."""
        running: list[Any] = list(replicas)
        self.router._update_running_replicas(running)

    def call(self, request: object = None, name: str = "id") -> asyncio.Task[Any]:
        """Send a request as a handle does; the result is Ray's."""
        metadata = RequestMetadata(request_id=name, internal_request_id=name, call_method="generate")
        task = asyncio.create_task(self.ray.assign_request(metadata, request))
        self.calls.append(task)
        return task

    def counts(self, *replicas: FakeReplica) -> list[int]:
        """How many requests the books have for each replica."""
        now = self.router._clock()
        return [
            self.router._balancer._ledger.ongoing(replica.replica_id.unique_id, now) for replica in replicas
        ]
