# SPDX-License-Identifier: Apache-2.0
"""Keeps the cache true and tells the work queue what to look at; fed by `handlers.py`, `revision_watch.py` and,
by time, by `main.py`.

Watch events give speed. The resync gives truth: it lists our resources afresh, repairs what the watch missed, and
has every resource compared with the world.
"""

from collections.abc import Callable
from typing import Any

import structlog

from lateen_operator import manifests
from lateen_operator.cache import Repair, ResourceCache, matters
from lateen_operator.health import Vitals
from lateen_operator.metrics import Metrics
from lateen_operator.revisions import Revisions
from lateen_operator.seams import REVISIONS, Cluster, Key, Kind, RevisionChange, Unavailable

log = structlog.get_logger(__name__)


class Informer:
    """What is known about our resources, and who wants to hear of changes.

    Args:
        cluster: Where lists come from.
        cache: Filled here.
        revisions: Filled here.
        enqueue: Called with each key that is to be reconciled.
        vitals: Told when a watch is known to be alive.
        metrics: Told of changes that the watch missed.

    """

    def __init__(
        self,
        cluster: Cluster,
        cache: ResourceCache,
        revisions: Revisions,
        enqueue: Callable[[Key], None],
        vitals: Vitals,
        metrics: Metrics,
    ) -> None:
        self._cluster, self._cache, self._revisions, self._enqueue = cluster, cache, revisions, enqueue
        self._vitals, self._metrics = vitals, metrics

    def seen(self, kind: Kind, change: str | None, body: dict[str, Any]) -> None:
        """A watch event: `change` is ADDED, MODIFIED, DELETED, or None for what exists when the watch begins."""
        self._vitals.watched(kind.value)
        resource = manifests.resource(kind, body)
        if change == "DELETED":
            if self._cache.remove(resource.key, resource.uid):
                self._enqueue(resource.key)
            return
        known = self._cache.get(resource.key)
        if self._cache.put(resource) and (known is None or matters(known, resource)):
            self._enqueue(resource.key)

    def seen_revision(self, change: RevisionChange) -> None:
        """What a watch of our ControllerRevisions tells. What we wrote ourselves is no news."""
        self._vitals.watched(REVISIONS)
        found = change.item
        if found is None:
            return
        is_news = self._revisions.lost(found) if change.deleted else self._revisions.saw(found)
        if is_news and found.owner is not None and self._cache.get(found.owner) is not None:
            self._enqueue(found.owner)

    async def relist_revisions(self, scope: str) -> str:
        """List the ControllerRevisions of `scope`; the version to watch from. Raises Unavailable.

        What that put right reaches their owners with the next resync.
        """
        self._judge(REVISIONS, await self._revisions.relist(scope))
        return self._revisions.listed(scope)

    async def resync(self) -> bool:
        """List the resources afresh and enqueue every key; whether all lists succeeded.

        ControllerRevisions only before the first list of them: after it their watch sees to that they are true.
        """
        complete = await self._know_revisions()
        for kind in Kind:
            try:
                await self._relist(kind)
            except Unavailable as error:
                complete = False
                log.warning("resources could not be listed", kind=kind.value, error=str(error))
        return complete

    async def _know_revisions(self) -> bool:
        try:
            for scope in self._revisions.scopes:
                if not self._revisions.listed(scope):
                    await self.relist_revisions(scope)
        except Unavailable as error:
            log.warning("resources could not be listed", kind=REVISIONS, error=str(error))
            return False
        return True

    async def _relist(self, kind: Kind) -> None:
        since = self._cache.moment(kind)
        repair = self._cache.replace(kind, await self._cluster.list(kind), since)
        self._judge(kind.value, repair)
        for key in repair.vanished:
            self._enqueue(key)
        for resource in self._cache.of_kind(kind):
            self._enqueue(resource.key)

    def _judge(self, kind: str, repair: Repair[Any]) -> None:
        """Whether the watch of `kind` did its work."""
        missed = len(repair.missed | repair.vanished) if self._vitals.synced else 0  # before, nobody watched
        if missed:
            self._metrics.repaired(kind, missed)
        else:
            self._vitals.watched(kind)
