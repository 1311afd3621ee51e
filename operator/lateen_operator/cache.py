# SPDX-License-Identifier: Apache-2.0
"""The resources of our kinds as last seen; filled by `handlers.py` and each resync, read by `reconcile/`.

Watch events make it fresh, a full list at every resync makes it true: an event that was missed is repaired.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lateen_operator.seams import Key, Kind, Resource


@dataclass(frozen=True)
class Repair:
    """What a list knew and the watch had not told; normally nothing."""

    vanished: frozenset[Key]
    """Resources that are gone."""

    missed: frozenset[Key]
    """Resources that are new or have changed."""


class ResourceCache:
    """Latest known state of every resource. Used from one event loop; reads cost nothing."""

    def __init__(self) -> None:
        self._resources: dict[Kind, dict[Key, Resource]] = {kind: {} for kind in Kind}
        self._moment = 0
        self._seen: dict[Key, int] = {}

    def get(self, key: Key) -> Resource | None:
        """The resource as last seen; None when it does not exist."""
        return self._resources[key.kind].get(key)

    def of_kind(self, kind: Kind) -> list[Resource]:
        """All resources of a kind, by namespace and name."""
        known = self._resources[kind]
        return [known[key] for key in sorted(known)]

    def moment(self) -> int:
        """Now, for `replace`: to be taken before the list is asked for."""
        return self._moment

    def put(self, resource: Resource) -> bool:
        """Remember `resource` unless a newer state of the same object is known; True when it changed anything."""
        self._touch(resource.key)
        known = self.get(resource.key)
        if known is not None and known.uid == resource.uid and not _newer(resource, known):
            return False
        self._resources[resource.key.kind][resource.key] = resource
        return True

    def remove(self, key: Key, uid: str | None = None) -> bool:
        """Forget a resource that is gone; True when it was known.

        With `uid` only that object is forgotten, not one that was created again under the same name.
        """
        known = self.get(key)
        if known is not None and uid is not None and known.uid != uid:
            return False
        self._touch(key)
        return self._resources[key.kind].pop(key, None) is not None

    def replace(self, kind: Kind, resources: Iterable[Resource], since: int | None = None) -> Repair:
        """Make `resources`, a fresh list, the truth about `kind`; what that put right.

        What events said after the moment `since` (before the list was asked for) may be newer than the
        list, so it stands until the next one. None: the list is the whole truth.
        """
        before = self._resources[kind]
        listed = {resource.key: resource for resource in resources}
        seen = {key: when for key, when in self._seen.items() if key.kind is kind}
        fresh = {key for key, when in seen.items() if since is not None and when > since}
        after = {key: _latest(before.get(key), item) for key, item in listed.items() if key not in fresh}
        for key in fresh & before.keys():
            after[key] = _latest(before[key], listed.get(key, before[key]))
        self._resources[kind] = after
        for key in seen.keys() - fresh:
            del self._seen[key]
        missed = frozenset(key for key, item in after.items() if _differs(item, before.get(key)))
        return Repair(vanished=frozenset(before.keys() - after.keys()), missed=missed)

    def _touch(self, key: Key) -> None:
        self._moment += 1
        self._seen[key] = self._moment


def _latest(known: Resource | None, listed: Resource) -> Resource:
    if known is not None and known.uid == listed.uid and _newer(known, listed):
        return known
    return listed


def _differs(item: Resource, known: Resource | None) -> bool:
    return known is None or (item.uid, item.resource_version) != (known.uid, known.resource_version)


def _newer(one: Resource, other: Resource) -> bool:
    """Whether `one` is a later state than `other`: resource versions are comparable since Kubernetes 1.35."""
    if one.resource_version.isdecimal() and other.resource_version.isdecimal():
        return int(one.resource_version) > int(other.resource_version)
    return one.resource_version != other.resource_version
