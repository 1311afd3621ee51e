# SPDX-License-Identifier: Apache-2.0
"""The ControllerRevisions of all resources as last seen, and all writes to them. Wired by `main.py`.

Filled by `informer.py` from watch and resync, like the cache of resources. What `reconcile/` writes goes through
here, so that the next pass sees it at once and no pass has to list them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lateen_operator.cache import ObjectCache, Repair
from lateen_operator.seams import Cluster, Resource, StoredRevision

Place = tuple[str, str]
"""Namespace and name of a ControllerRevision."""


class Revisions:
    """All ControllerRevisions of ours. Used from one event loop; reads cost no request."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._cache = ObjectCache[Place, StoredRevision](lambda item: (item.namespace, item.name))

    def by_owner(self) -> dict[str, tuple[StoredRevision, ...]]:
        """Those of each resource by its uid, newest first."""
        owners: dict[str, list[StoredRevision]] = {}
        for item in sorted(self._cache.all(), key=lambda revision: (-revision.number, revision.name)):
            owners.setdefault(item.owner_uid, []).append(item)
        return {uid: tuple(items) for uid, items in owners.items()}

    def saw(self, item: StoredRevision) -> bool:
        """Take what a watch tells; True when it is news."""
        return self._cache.put(item)

    def lost(self, item: StoredRevision) -> bool:
        """Take from a watch that it is deleted; True when it is news."""
        return self._cache.remove((item.namespace, item.name), item.uid)

    async def relist(self) -> Repair[Place]:
        """Make the API server's list the truth; what that put right. Raises Unavailable."""
        since = self._cache.moment()
        return self._cache.replace(await self._cluster.revisions(), since)

    async def store(self, owner: Resource, revision: str, number: int, data: Mapping[str, Any]) -> None:
        """Keep a new revision of `owner`; one that is there already is fine. Raises Unavailable."""
        self._cache.put(await self._cluster.store_revision(owner, revision, number, data))

    async def renumber(self, namespace: str, name: str, number: int) -> None:
        """Make one the newest of its owner's; gone is fine. Raises Unavailable."""
        self._wrote((namespace, name), await self._cluster.renumber_revision(namespace, name, number))

    async def abort(self, namespace: str, name: str, why: str) -> None:
        """Note why its rollout was given up; gone is fine. Raises Unavailable."""
        self._wrote((namespace, name), await self._cluster.abort_revision(namespace, name, why))

    async def note_use(self, namespace: str, name: str, when: int) -> None:
        """Note when it was last used (Unix time, seconds); gone is fine. Raises Unavailable."""
        self._wrote((namespace, name), await self._cluster.note_use(namespace, name, when))

    async def delete(self, namespace: str, names: Iterable[str]) -> None:
        """Delete some; gone is fine. Raises Unavailable."""
        for name in names:
            await self._cluster.delete_revision(namespace, name)
            self._cache.remove((namespace, name))

    def _wrote(self, place: Place, found: StoredRevision | None) -> None:
        if found is None:
            self._cache.remove(place)
        else:
            self._cache.put(found)
