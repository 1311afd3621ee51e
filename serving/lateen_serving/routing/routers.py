# SPDX-License-Identifier: Apache-2.0
"""Ray Serve's request router for all strategies. Ray imports it by `serve_config.ROUTER_CLASS`.

A router lives in the process that calls the model: one per handle, so each gateway replica has its own books. Ray keeps
a task for each waiting request, which asks `choose_replicas` again and again until a replica is free and then calls
`_fulfill_next_pending_request`. What is different here from Ray's own routers, and why:

- The replica found is not always given to the request that heads the queue: `PrefixAware` would lose what it is for.
- The books change when a replica is assigned, not when the request has left: of requests that come in one moment each
  sees the ones before it. (A method called twice within one HTTP request has one id, so names alone can't tell them apart.)
- A request that waits for a free replica is woken when one is, instead of after a pause of up to half a second.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from ray.serve._private.common import RequestMetadata
from ray.serve._private.replica_result import ReplicaResult
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from lateen_api.scaling import RoutingStrategy
from lateen_serving.routing import prefix
from lateen_serving.routing.balancer import Balancer
from lateen_serving.routing.policy import Policy
from lateen_serving.routing.prefix_aware import PrefixAware, home
from lateen_serving.routing.response_time import ResponseTime
from lateen_serving.routing.turns import LeastLoaded, RoundRobin
from lateen_serving.routing.watching import watch

FIRST_CHOICES = 3
"""Replicas that are tried one by one; the others, should it come to them, are all tried at once."""

PATIENCE_SECONDS = 2.0
"""A request that has waited this long takes the next free replica, whichever it prefers."""

LOOK_AHEAD = 64
"""Waiting requests among which one that prefers the free replica is looked for."""


def _policy(strategy: RoutingStrategy) -> Policy:
    match strategy:
        case "LeastLoaded":
            return LeastLoaded()
        case "PrefixAware":
            return PrefixAware()
        case "ResponseTime":
            return ResponseTime()
        case "RoundRobin":
            return RoundRobin()


class StrategyRouter(RequestRouter):
    """Routes by one strategy until it is told another (`steering.py`): the books, and the order of waiting requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock: Callable[[], float] = time.monotonic
        self._strategy: RoutingStrategy = "LeastLoaded"
        self._balancer = Balancer(_policy(self._strategy), random.Random())  # noqa: S311 - guards nothing
        self._assigned: dict[int, str] = {}
        self._keys: dict[int, bytes | None] = {}
        self._homes: dict[int, str] = {}
        self._handed_over: tuple[str, str] | None = None
        self._freed: list[asyncio.Future[None]] = []

    def follow(self, strategy: RoutingStrategy) -> None:
        """Route by `strategy` from now on; what is known of the replicas' requests stays."""
        if strategy != self._strategy:
            self._strategy = strategy
            self._balancer.follow(_policy(strategy))

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The candidates as the strategy ranks them, the best ones one by one, those that are full at the end.

        Full ones are offered all the same: what is known may be out of date, and Ray asks them before it sends.
        """
        key = None
        if pending_request is not None:
            # Without this Ray would ask again at once while all replicas are full, and block the event loop.
            pending_request.routing_context.should_backoff = True
            key = self.key_of(pending_request)
        by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        ranked = [by_id[name] for name in self._balancer.rank(key, list(by_id), self._clock())]
        available = [replica for replica in ranked if not self._is_full(replica)]
        full = [replica for replica in ranked if self._is_full(replica)]
        ranks = [[replica] for replica in available[:FIRST_CHOICES]]
        return [rank for rank in [*ranks, available[FIRST_CHOICES:], full] if rank]

    def key_of(self, pending: PendingRequest) -> bytes | None:
        """How the request begins, worked out once; None where the strategy does not ask, or nothing is said."""
        if self._strategy != "PrefixAware":
            return None
        name = id(pending)
        if name in self._keys:
            return self._keys[name]
        found = prefix.key(pending.args[0]) if pending.args else None
        if not pending.future.done():
            self._keys[name] = found
        return found

    def _forget(self, pending: PendingRequest) -> None:
        """Drop what was kept of a request that waits no longer."""
        self._keys.pop(id(pending), None)
        self._homes.pop(id(pending), None)

    def _is_full(self, replica: RunningReplica) -> bool:
        known = self._replica_queue_len_cache.get(replica.replica_id) or 0
        ongoing = max(known, self._balancer.own(replica.replica_id.unique_id))
        return ongoing >= replica.max_ongoing_requests

    def _fulfill_next_pending_request(
        self, replica: RunningReplica, request_metadata: RequestMetadata | None = None
    ) -> None:
        """Give `replica` to one of the waiting requests. Called by Ray, which found it for that of `request_metadata`."""
        queue = self._pending_requests_to_fulfill
        while queue and queue[0].future.done():
            queue.popleft()
        if not queue:
            return
        pending = self.next_for(replica, request_metadata)
        self._cancel_routing_task_for_pending_request(pending)
        self._record_queue_wait_time(pending)
        self._remove_pending_request_from_indices(pending)
        self._assigned[id(pending)] = replica.replica_id.unique_id
        self._balancer.assign(replica.replica_id.unique_id, self._clock())
        pending.future.set_result(replica)

    def next_for(self, replica: RunningReplica, found_for: RequestMetadata | None) -> PendingRequest:
        """The waiting request that gets `replica`: the oldest, or with PrefixAware one that prefers it.

        While all replicas are busy, a free one comes to whoever asks first. If each request took whichever is free, no
        conversation would stay where it is known; so the oldest one that prefers the replica gets it, else the one that
        it was found for, and the oldest of all if that has waited too long.
        """
        queue = (pending for pending in self._pending_requests_to_fulfill if not pending.future.done())
        waiting = list(islice(queue, LOOK_AHEAD))
        if self._strategy != "PrefixAware" or time.time() - waiting[0].created_at > PATIENCE_SECONDS:
            return waiting[0]
        exact = next((pending for pending in waiting if pending.metadata is found_for), waiting[0])
        if self._prefers(exact, replica):
            return exact
        return next((pending for pending in waiting if self._prefers(pending, replica)), exact)

    def _prefers(self, pending: PendingRequest, replica: RunningReplica) -> bool:
        key = self.key_of(pending)
        if key is None:
            return False
        if id(pending) not in self._homes:
            self._homes[id(pending)] = home(key, [known.unique_id for known in self._replicas])
        return self._homes[id(pending)] == replica.replica_id.unique_id

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        # Between the return and `on_send_request` Ray awaits nothing: the assignment ends here, and the one
        # request that was handed over is the one that is sent, or whose sending fails.
        try:
            replica: RunningReplica = await super()._choose_replica_for_request(
                pending_request, is_retry=is_retry
            )
        finally:
            self._forget(pending_request)
            assigned = self._assigned.pop(id(pending_request), None)
            if assigned is not None:
                self._balancer.release(assigned)
        self._handed_over = (replica.replica_id.unique_id, pending_request.metadata.internal_request_id)
        return replica

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Called by Ray when a request has been sent, before it is known whether it was accepted."""
        super().on_send_request(replica_id)
        if self._handed_over is not None:
            self._balancer.sent(*self._handed_over, self._clock())
            self._handed_over = None

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """Called by Ray with what a replica says when it accepts or refuses a request."""
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        self._balancer.reported(replica_id.unique_id, num_ongoing_requests, self._clock())

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: ReplicaResult
    ) -> None:
        """Called by Ray when a replica has accepted a request."""
        request = (replica_id.unique_id, pending_request.metadata.internal_request_id)
        self._balancer.accepted(*request)
        watch(
            result,
            lambda is_to_blame: self._balancer.failed(*request, self._clock(), is_to_blame=is_to_blame),
        )

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Called by Ray when a request is over: answered, failed, refused, cancelled, or not sent at all."""
        request = (replica_id.unique_id, internal_request_id)
        if self._handed_over == request:
            self._handed_over = None
            return
        self._balancer.ended(*request, self._clock())
        self._wake()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Ray when replicas come, go, or change."""
        self._homes.clear()
        super().update_replicas(replicas)
        self._balancer.keep([replica.replica_id.unique_id for replica in replicas])
        self._wake()

    async def _backoff(self, attempt: int) -> None:
        """Wait until a replica may be free; at most for Ray's pause, in case it was another gateway's request."""
        freed: asyncio.Future[None] = self._event_loop.create_future()
        self._freed.append(freed)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._compute_backoff_s(attempt)):
                    await freed
        finally:
            with suppress(ValueError):
                self._freed.remove(freed)

    def _wake(self) -> None:
        """Let the request that has waited longest try again."""
        while self._freed:
            freed = self._freed.pop(0)
            if not freed.done():
                freed.set_result(None)
                return
