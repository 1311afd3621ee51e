# SPDX-License-Identifier: Apache-2.0
"""The ControllerRevisions of all resources as last seen, and all writes to them. Wired by `main.py`.

Listed once, then kept true by a watch (`revision_watch.py`): there may be thousands, each with a whole spec, so they
are listed again only when the watch can't go on. What `reconcile/` writes goes through here, so that the next pass
sees it at once and no pass has to list them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lateen_operator.cache import ObjectCache, Repair
from lateen_operator.seams import Cluster, Resource, StoredRevision

Place = tuple[str, str]
"""Namespace and name of a ControllerRevision."""

Owner = tuple[str, str]
"""Namespace and uid of a resource: anybody may write a uid into a label, but only in a namespace of theirs."""

EVERYWHERE = ""
"""The scope of an operator that watches all namespaces."""


class Revisions:
    """All ControllerRevisions of ours. Used from one event loop; reads cost no request.

    Args:
        cluster: Where they are.
        namespaces: Those that are watched; none: all. Each is listed and watched by itself.

    """

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] = ()) -> None:
        self._cluster = cluster
        self._caches = {
            scope: ObjectCache[Place, StoredRevision](lambda item: (item.namespace, item.name))
            for scope in namespaces or (EVERYWHERE,)
        }
        self._versions: dict[str, str] = {}
        self._owned: dict[Owner, tuple[StoredRevision, ...]] | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """Namespaces to be watched, or only `EVERYWHERE`."""
        return tuple(self._caches)

    def listed(self, scope: str) -> str:
        """Resource version of the last list of `scope`; empty before the first."""
        return self._versions.get(scope, "")

    def by_owner(self) -> Mapping[Owner, tuple[StoredRevision, ...]]:
        """Those of each resource, newest first."""
        if self._owned is None:
            owners: dict[Owner, list[StoredRevision]] = {}
            every = (item for cache in self._caches.values() for item in cache.all())
            for item in sorted(every, key=lambda revision: (-revision.number, revision.name)):
                owners.setdefault((item.namespace, item.owner_uid), []).append(item)
            self._owned = {owner: tuple(items) for owner, items in owners.items()}
        return self._owned

    def saw(self, item: StoredRevision) -> bool:
        """Take what a watch tells; True when it is news."""
        return self._put(item)

    def lost(self, item: StoredRevision) -> bool:
        """Take from a watch that it is deleted; True when it is news."""
        return self._remove((item.namespace, item.name), item.uid)

    async def relist(self, scope: str) -> Repair[Place]:
        """Make the API server's list the truth about `scope`; what that put right. Raises Unavailable."""
        cache = self._caches[scope]
        since = cache.moment()
        found = await self._cluster.revisions(scope)
        self._owned = None
        self._versions[scope] = found.version
        return cache.replace(found.items, since)

    async def store(self, owner: Resource, revision: str, number: int, data: Mapping[str, Any]) -> None:
        """Keep a new revision of `owner`; one that is there already is fine. Raises Unavailable."""
        self._put(await self._cluster.store_revision(owner, revision, number, data))

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
            self._remove((namespace, name))

    def _wrote(self, place: Place, found: StoredRevision | None) -> None:
        if found is None:
            self._remove(place)
        else:
            self._put(found)

    def _put(self, item: StoredRevision) -> bool:
        self._owned = None
        return self._cache(item.namespace).put(item)

    def _remove(self, place: Place, uid: str | None = None) -> bool:
        self._owned = None
        return self._cache(place[0]).remove(place, uid)

    def _cache(self, namespace: str) -> ObjectCache[Place, StoredRevision]:
        return self._caches[EVERYWHERE if EVERYWHERE in self._caches else namespace]
