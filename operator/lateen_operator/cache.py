# SPDX-License-Identifier: Apache-2.0
"""What the API server holds of ours as last seen; filled by `handlers.py` and each resync, read by `reconcile/`.

Watch events make it fresh, a full list at every resync makes it true: an event that was missed is repaired.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lateen_operator.seams import Key, Kind, Resource


class Versioned(Protocol):
    """An object of the API server."""

    @property
    def uid(self) -> str:
        """Tells it from namesakes."""
        ...

    @property
    def resource_version(self) -> str:
        """Grows with each change."""
        ...


_Name = TypeVar("_Name", bound=Hashable)
_Item = TypeVar("_Item", bound=Versioned)


@dataclass(frozen=True)
class Repair(Generic[_Name]):
    """What a list knew and the watch had not told; normally nothing."""

    vanished: frozenset[_Name]
    """Objects that are gone."""

    missed: frozenset[_Name]
    """Objects that are new or have changed."""


class ObjectCache(Generic[_Name, _Item]):
    """Latest known state of every object of one kind. Used from one event loop; reads cost nothing."""

    def __init__(self, name_of: Callable[[_Item], _Name]) -> None:
        self._name_of = name_of
        self._items: dict[_Name, _Item] = {}
        self._moment = 0
        self._is_listing = False
        self._seen: dict[_Name, int] = {}
        """When what was told while a list is on its way: nothing else needs it."""

    def get(self, name: _Name) -> _Item | None:
        """The object as last seen; None when it does not exist."""
        return self._items.get(name)

    def all(self) -> Iterable[_Item]:
        """All of them, in no order."""
        return self._items.values()

    def moment(self) -> int:
        """Now, for `replace`: to be taken before the list is asked for, of which only one may be on its way."""
        self._is_listing = True
        self._seen.clear()
        return self._moment

    def put(self, item: _Item) -> bool:
        """Remember `item` unless a newer state of the same object is known; True when it changed anything."""
        name = self._name_of(item)
        self._touch(name)
        known = self._items.get(name)
        if known is not None and known.uid == item.uid and not _newer(item, known):
            return False
        self._items[name] = item
        return True

    def remove(self, name: _Name, uid: str | None = None) -> bool:
        """Forget an object that is gone; True when it was known.

        With `uid` only that object is forgotten, not one that was created again under the same name.
        """
        known = self._items.get(name)
        if known is not None and uid is not None and known.uid != uid:
            return False
        self._touch(name)
        return self._items.pop(name, None) is not None

    def replace(self, items: Iterable[_Item], since: int | None = None) -> Repair[_Name]:
        """Make `items`, a fresh list, the truth; what that put right.

        What events said after the moment `since` (before the list was asked for) may be newer than the
        list, so it stands until the next one. None: the list is the whole truth.
        """
        before = self._items
        listed = {self._name_of(item): item for item in items}
        fresh = {name for name, when in self._seen.items() if since is not None and when > since}
        after = {name: _latest(before.get(name), item) for name, item in listed.items() if name not in fresh}
        for name in fresh & before.keys():
            after[name] = _latest(before[name], listed.get(name, before[name]))
        self._items = after
        self._is_listing = False
        self._seen.clear()
        missed = frozenset(name for name, item in after.items() if _differs(item, before.get(name)))
        return Repair(vanished=frozenset(before.keys() - after.keys()), missed=missed)

    def _touch(self, name: _Name) -> None:
        self._moment += 1
        if self._is_listing:
            self._seen[name] = self._moment


class ResourceCache:
    """Latest known state of every resource of our kinds."""

    def __init__(self) -> None:
        self._kinds = {kind: ObjectCache[Key, Resource](lambda item: item.key) for kind in Kind}

    def get(self, key: Key) -> Resource | None:
        """The resource as last seen; None when it does not exist."""
        return self._kinds[key.kind].get(key)

    def of_kind(self, kind: Kind) -> list[Resource]:
        """All resources of a kind, by namespace and name."""
        return sorted(self._kinds[kind].all(), key=lambda item: item.key)

    def moment(self, kind: Kind) -> int:
        """Now, for `replace`: to be taken before the list is asked for."""
        return self._kinds[kind].moment()

    def put(self, resource: Resource) -> bool:
        """Remember `resource` unless a newer state of the same object is known; True when it changed anything."""
        return self._kinds[resource.key.kind].put(resource)

    def wrote_status(self, resource: Resource) -> None:
        """Remember what the API server answered to a write of the status, so that the next look starts from it.

        Where the answer shows another change as well it is left to the watch, which has yet to tell of that.
        """
        known = self.get(resource.key)
        if known is not None and not matters(known, resource):
            self.put(resource)

    def remove(self, key: Key, uid: str | None = None) -> bool:
        """Forget a resource that is gone; True when it was known.

        With `uid` only that object is forgotten, not one that was created again under the same name.
        """
        return self._kinds[key.kind].remove(key, uid)

    def replace(self, kind: Kind, resources: Iterable[Resource], since: int | None = None) -> Repair[Key]:
        """Make `resources`, a fresh list, the truth about `kind`; see `ObjectCache.replace`."""
        return self._kinds[kind].replace(resources, since)


def _latest(known: _Item | None, listed: _Item) -> _Item:
    """The later state; where nothing has changed the known object, so that whoever has read it knows it again."""
    if known is None or known.uid != listed.uid:
        return listed
    return known if _newer(known, listed) or known == listed else listed


def _differs(item: Versioned, known: Versioned | None) -> bool:
    return known is None or (item.uid, item.resource_version) != (known.uid, known.resource_version)


def _newer(one: Versioned, other: Versioned) -> bool:
    """Whether `one` is a later state than `other`: resource versions are comparable since Kubernetes 1.35."""
    if one.resource_version.isdecimal() and other.resource_version.isdecimal():
        return int(one.resource_version) > int(other.resource_version)
    return one.resource_version != other.resource_version


def matters(before: Resource, after: Resource) -> bool:
    """Whether more than the status changed: that is ours, and drift in it can wait for the resync."""
    return any(
        getattr(before, name) != getattr(after, name)
        for name in ("uid", "generation", "annotations", "finalizers", "deleting")
    )
