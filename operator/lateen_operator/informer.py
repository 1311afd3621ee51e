# SPDX-License-Identifier: Apache-2.0
"""Keeps the cache true and tells the work queue what to look at; fed by `handlers.py` and, by time, by `main.py`.

Watch events give speed. The resync gives truth: it lists everything afresh, repairs what the watch missed, and
has every resource compared with the world.
"""

from collections.abc import Callable
from typing import Any

import structlog

from lateen_operator import manifests
from lateen_operator.cache import ResourceCache
from lateen_operator.health import Vitals
from lateen_operator.metrics import Metrics
from lateen_operator.seams import Cluster, Key, Kind, Resource, Unavailable

log = structlog.get_logger(__name__)


class Informer:
    """What is known about our resources, and who wants to hear of changes.

    Args:
        cluster: Where lists come from.
        cache: Filled here.
        enqueue: Called with each key that is to be reconciled.
        vitals: Told when a watch is known to be alive.
        metrics: Told of changes that the watch missed.

    """

    def __init__(
        self,
        cluster: Cluster,
        cache: ResourceCache,
        enqueue: Callable[[Key], None],
        vitals: Vitals,
        metrics: Metrics,
    ) -> None:
        self._cluster, self._cache, self._enqueue = cluster, cache, enqueue
        self._vitals, self._metrics = vitals, metrics

    def seen(self, kind: Kind, change: str | None, body: dict[str, Any]) -> None:
        """A watch event: `change` is ADDED, MODIFIED, DELETED, or None for what exists when the watch begins."""
        self._vitals.watched(kind)
        resource = manifests.resource(kind, body)
        if change == "DELETED":
            if self._cache.remove(resource.key, resource.uid):
                self._enqueue(resource.key)
            return
        known = self._cache.get(resource.key)
        if self._cache.put(resource) and (known is None or _matters(known, resource)):
            self._enqueue(resource.key)

    async def resync(self) -> bool:
        """List all kinds afresh and enqueue every key; whether all lists succeeded."""
        complete = True
        for kind in Kind:
            try:
                await self._relist(kind)
            except Unavailable as error:
                complete = False
                log.warning("resources could not be listed", kind=kind.value, error=str(error))
        return complete

    async def _relist(self, kind: Kind) -> None:
        since = self._cache.moment()
        repair = self._cache.replace(kind, await self._cluster.list(kind), since)
        missed = len(repair.missed | repair.vanished) if self._vitals.synced else 0  # before, nobody watched
        if missed:
            self._metrics.repaired(kind, missed)
        else:
            self._vitals.watched(kind)
        for key in repair.vanished:
            self._enqueue(key)
        for resource in self._cache.of_kind(kind):
            self._enqueue(resource.key)


def _matters(before: Resource, after: Resource) -> bool:
    """Whether more than the status changed: that is ours, and drift in it can wait for the resync."""
    return any(
        getattr(before, name) != getattr(after, name)
        for name in ("uid", "generation", "annotations", "finalizers", "deleting")
    )
