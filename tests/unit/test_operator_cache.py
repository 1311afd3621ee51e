# SPDX-License-Identifier: Apache-2.0
"""The operator's cache and informer: watch events and lists that arrive in any order."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lateen_operator import manifests
from lateen_operator.cache import ResourceCache
from lateen_operator.health import Vitals
from lateen_operator.informer import Informer
from lateen_operator.metrics import Metrics
from lateen_operator.revisions import Revisions
from lateen_operator.seams import (
    REVISIONS,
    Key,
    Kind,
    ListedRevisions,
    Resource,
    RevisionChange,
    StoredRevision,
    Unavailable,
)

MODEL = Kind.MODEL_DEPLOYMENT


def body(name: str = "a", version: int = 1, uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    """A ModelDeployment as a watch shows it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "generation": 1,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-02T03:04:05Z",
            **metadata,
        },
        "spec": {},
    }


def resource(name: str = "a", version: int = 1, uid: str = "u1") -> Resource:
    """The same, read."""
    return manifests.resource(MODEL, body(name, version, uid))


A = resource("a").key


def test_newer_state_replaces_an_older_one() -> None:
    """Versions are compared as numbers."""
    cache = ResourceCache()
    assert cache.put(resource(version=9))
    assert cache.put(resource(version=10))
    assert not cache.put(resource(version=10))
    assert not cache.put(resource(version=9))
    assert cache.get(A) == resource(version=10)


def test_namesake_replaces_the_object_before_it() -> None:
    """An object created again under the same name is another one, whatever its version."""
    cache = ResourceCache()
    cache.put(resource(version=10, uid="u1"))
    assert cache.put(resource(version=3, uid="u2"))


def test_late_deletion_of_a_predecessor_leaves_the_namesake() -> None:
    """A DELETED event names the object that went, not its successor."""
    cache = ResourceCache()
    cache.put(resource(version=5, uid="u2"))
    assert not cache.remove(A, uid="u1")
    assert cache.get(A) is not None
    assert cache.remove(A, uid="u2")
    assert cache.get(A) is None


def test_list_repairs_what_the_watch_missed() -> None:
    """Vanished, changed and new resources are found, and only they."""
    cache = ResourceCache()
    for item in (resource("gone"), resource("same"), resource("changed")):
        cache.put(item)
    listed = [resource("same"), resource("changed", version=2), resource("new")]
    repair = cache.replace(MODEL, listed, cache.moment(MODEL))
    assert {key.name for key in repair.vanished} == {"gone"}
    assert {key.name for key in repair.missed} == {"changed", "new"}
    assert cache.of_kind(MODEL) == [resource("changed", version=2), resource("new"), resource("same")]


def test_list_says_nothing_about_other_kinds() -> None:
    """Each kind is replaced by itself."""
    cache = ResourceCache()
    prompt = replace(resource(), key=Key(Kind.PROMPT_TEMPLATE, "default", "a"))
    cache.put(prompt)
    cache.replace(MODEL, [])
    assert cache.get(prompt.key) == prompt


def test_events_that_overtake_a_list_stand() -> None:
    """A list that was on its way when something happened neither removes a newborn nor revives the dead."""
    cache = ResourceCache()
    for item in (resource("deleted"), resource("updated")):
        cache.put(item)
    since = cache.moment(MODEL)
    cache.put(resource("born"))
    cache.put(resource("updated", version=7))
    cache.remove(resource("deleted").key)
    repair = cache.replace(MODEL, [resource("deleted"), resource("updated")], since)
    assert [item.key.name for item in cache.of_kind(MODEL)] == ["born", "updated"]
    assert cache.get(resource("updated").key) == resource("updated", version=7)
    assert not repair.missed
    assert not repair.vanished


def test_list_after_the_events_is_the_truth_again() -> None:
    """What events said counts against the list on its way only."""
    cache = ResourceCache()
    cache.put(resource("ghost"))
    repair = cache.replace(MODEL, [], cache.moment(MODEL))
    assert {key.name for key in repair.vanished} == {"ghost"}


class FakeCluster:
    """Lists what a test put there."""

    def __init__(self) -> None:
        self.lists: dict[Kind, list[Resource]] = {kind: [] for kind in Kind}
        self.failing: set[Kind] = set()
        self.stored: list[StoredRevision] = []
        self.revision_lists = 0

    async def list(self, kind: Kind) -> list[Resource]:
        if kind in self.failing:
            raise Unavailable("away")
        return self.lists[kind]

    async def revisions(self, namespace: str) -> ListedRevisions:
        self.revision_lists += 1
        return ListedRevisions(self.stored, "7")

    async def note_use(self, namespace: str, name: str, when: int) -> StoredRevision | None:
        return next((replace(item, used=when, resource_version="9") for item in self.stored), None)

    async def delete_revision(self, namespace: str, name: str) -> None:
        pass


class Desk:
    """An informer with all it talks to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cluster = FakeCluster()
        self.cache = ResourceCache()
        self.queued: list[str] = []
        self.vitals = Vitals(lambda: self.now, stale_after=180)
        self.vitals.lead()
        self.vitals.synced = True
        self.metrics = Metrics()
        enqueue = lambda key: self.queued.append(key.name)  # noqa: E731
        self.revisions = Revisions(self.cluster)  # type: ignore[arg-type]  # only what is there is used
        self.informer = Informer(
            self.cluster,  # type: ignore[arg-type]  # as above
            self.cache,
            self.revisions,
            enqueue,
            self.vitals,
            self.metrics,
        )

    def tell(self, change: str | None, told: Mapping[str, Any]) -> list[str]:
        """What one watch event enqueues."""
        self.queued.clear()
        self.informer.seen(MODEL, change, dict(told))
        return list(self.queued)


@pytest.mark.parametrize(
    ("change", "told", "expected"),
    [
        ("ADDED", body("b"), ["b"]),
        (None, body("b"), ["b"]),
        ("MODIFIED", body("a", 2, generation=2), ["a"]),
        ("MODIFIED", body("a", 2, annotations={"lateen.dev/sync": "1"}), ["a"]),
        ("MODIFIED", body("a", 2, deletionTimestamp="2026-01-02T03:04:06Z"), ["a"]),
        ("MODIFIED", body("a", 2, finalizers=["x"]), ["a"]),
        ("MODIFIED", body("a", 2), []),
        ("MODIFIED", body("a", 1), []),
        ("DELETED", body("a", 2), ["a"]),
        ("DELETED", body("b", 2), []),
    ],
)
async def test_watch_events_enqueue_what_needs_a_look(
    change: str | None, told: Mapping[str, Any], expected: list[str]
) -> None:
    """Everything but a mere change of status, which is our own doing, or an event that tells nothing new."""
    desk = Desk()
    desk.tell("ADDED", body("a", 1))
    assert desk.tell(change, told) == expected


async def test_resync_enqueues_everything_there_is_and_what_vanished() -> None:
    """Each resource is compared with the world again, also without any event."""
    desk = Desk()
    desk.tell("ADDED", body("gone"))
    desk.cluster.lists[MODEL] = [resource("a"), resource("b")]
    desk.queued.clear()
    assert await desk.informer.resync()
    assert sorted(desk.queued) == ["a", "b", "gone"]


async def test_kind_that_cannot_be_listed_keeps_what_is_known() -> None:
    """A failing list is no list of nothing, and the other kinds are listed all the same."""
    desk = Desk()
    desk.tell("ADDED", body("a"))
    desk.cluster.failing = {MODEL}
    prompt = replace(resource("p"), key=Key(Kind.PROMPT_TEMPLATE, "default", "p"))
    desk.cluster.lists[Kind.PROMPT_TEMPLATE] = [prompt]
    desk.queued.clear()
    assert not await desk.informer.resync()
    assert desk.cache.get(A) is not None
    assert desk.queued == ["p"]


async def test_first_list_finds_everything_and_blames_no_watch() -> None:
    """Before it nobody watched, so nothing was missed."""
    desk = Desk()
    desk.vitals.synced = False
    desk.cluster.lists[MODEL] = [resource("a")]
    await desk.informer.resync()
    assert desk.queued == ["a"]
    assert b'lateen_operator_missed_events_total{kind="ModelDeployment"} 0.0' in desk.metrics.text()


async def test_watch_that_misses_changes_grows_stale_and_is_counted() -> None:
    """A list that finds changes is no sign of life of the watch; one that finds none is."""
    desk = Desk()
    desk.now = 100
    await desk.informer.resync()
    assert desk.vitals.watch_age(MODEL) == 0
    desk.now = 150
    desk.cluster.lists[MODEL] = [resource("a")]
    await desk.informer.resync()
    assert desk.vitals.watch_age(MODEL) == 50
    assert b'lateen_operator_missed_events_total{kind="ModelDeployment"} 1.0' in desk.metrics.text()
    desk.now = 160
    desk.tell("MODIFIED", body("a", 2))
    assert desk.vitals.watch_age(MODEL) == 0


def kept(name: str = "a-md-1", version: int = 1, number: int = 1, **metadata: Any) -> dict[str, Any]:
    """A ControllerRevision of the model `a` as a watch shows it."""
    owner = {"apiVersion": "lateen.dev/v1alpha1", "kind": "ModelDeployment", "name": "a", "uid": "u1"}
    told = body(name, version, f"uid-{name}", ownerReferences=[owner], labels={"lateen.dev/owner-uid": "u1"})
    return {"metadata": told["metadata"] | metadata, "revision": number, "data": {}}


def names_of(desk: Desk) -> list[str]:
    """Names of the revisions known of the model `a`, newest first."""
    return [item.name for item in desk.revisions.by_owner().get(("default", "u1"), ())]


def watched(desk: Desk, change: str, told: dict[str, Any]) -> list[str]:
    """What a watch event of a ControllerRevision enqueues."""
    desk.queued.clear()
    item = manifests.stored_revision(told)
    desk.informer.seen_revision(RevisionChange(item.resource_version, item, deleted=change == "DELETED"))
    return list(desk.queued)


async def test_what_others_do_to_a_revision_is_looked_at() -> None:
    """Its owner is reconciled; news that is none, or of an owner that is gone, is not."""
    desk = Desk()
    assert watched(desk, "ADDED", kept()) == []
    desk.tell("ADDED", body("a"))
    assert watched(desk, "ADDED", kept("a-md-2", number=2)) == ["a"]
    assert names_of(desk) == ["a-md-2", "a-md-1"]
    assert watched(desk, "MODIFIED", kept("a-md-2", number=2)) == []
    assert watched(desk, "DELETED", kept("a-md-2", version=3)) == ["a"]
    assert names_of(desk) == ["a-md-1"]


async def test_own_writes_are_seen_at_once_and_are_no_news_later() -> None:
    """A note is there before the watch tells of it; what was deleted is not brought back by a list under way."""
    desk = Desk()
    desk.tell("ADDED", body("a"))
    desk.cluster.stored = [manifests.stored_revision(kept())]
    await desk.revisions.relist("")
    await desk.revisions.note_use("default", "a-md-1", 77)
    assert desk.revisions.by_owner()[("default", "u1")][0].used == 77
    assert watched(desk, "MODIFIED", kept(version=9)) == []
    await desk.revisions.delete("default", ["a-md-1"])
    assert names_of(desk) == []
    assert watched(desk, "DELETED", kept(version=10)) == []


async def test_a_new_list_repairs_the_revisions() -> None:
    """What it knows more than the watch is the truth, and is counted as what the watch missed."""
    desk = Desk()
    watched(desk, "ADDED", kept("gone"))
    desk.now = 100
    desk.cluster.stored = [manifests.stored_revision(kept())]
    assert await desk.informer.relist_revisions("") == "7"
    assert names_of(desk) == ["a-md-1"]
    assert desk.vitals.watch_age(REVISIONS) == 100
    assert b'lateen_operator_missed_events_total{kind="ControllerRevision"} 2.0' in desk.metrics.text()
    await desk.informer.relist_revisions("")
    assert desk.vitals.watch_age(REVISIONS) == 0


async def test_only_the_first_resync_lists_the_revisions() -> None:
    """There may be thousands, and their watch misses none."""
    desk = Desk()
    for _ in range(3):
        assert await desk.informer.resync()
    assert desk.cluster.revision_lists == 1


async def test_what_passed_long_ago_is_forgotten() -> None:
    """A cache that only a watch fills remembers nothing of objects that came and went."""
    desk = Desk()
    await desk.revisions.relist("")
    for number in range(50):
        watched(desk, "ADDED", kept(f"a-md-{number}", number + 1))
        watched(desk, "DELETED", kept(f"a-md-{number}", number + 1))
    cache = desk.revisions._cache("default")
    assert not cache._seen
    assert not list(cache.all())


def test_the_answer_to_a_write_of_the_status_hides_no_other_change() -> None:
    """A spec that changed just before is left to the watch, which tells that it did; what is gone stays gone."""
    cache, before = ResourceCache(), resource()
    cache.wrote_status(before)
    assert cache.get(before.key) is None
    cache.put(before)
    cache.wrote_status(replace(before, status={"version": "2"}, generation=9, resource_version="3"))
    assert cache.get(before.key) == before
    told = replace(before, status={"version": "1"}, resource_version="3")
    cache.wrote_status(told)
    assert cache.get(before.key) == told
