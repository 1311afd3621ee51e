# SPDX-License-Identifier: Apache-2.0
"""How the operator follows ControllerRevisions: what it asks again for, and what it does not."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from lateen_operator.cache import ResourceCache
from lateen_operator.health import Vitals
from lateen_operator.informer import Informer
from lateen_operator.metrics import Metrics
from lateen_operator.revision_watch import LONGEST_PAUSE, RevisionWatch
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Expired, ListedRevisions, RevisionChange, StoredRevision, Unavailable

A = StoredRevision("a", "u1", 1, "abc", {}, 60, namespace="default", uid="r1", resource_version="5")
Told = Sequence[RevisionChange | Exception]


class Cluster:
    """Tells what a test wrote down, a list for each watch; the last watch tells nothing more and does not end."""

    def __init__(self, *watches: Told, listed: Sequence[StoredRevision] = ()) -> None:
        self.watches, self.listed = list(watches), listed
        self.calls: list[str] = []
        self.told = asyncio.Event()

    async def revisions(self, namespace: str) -> ListedRevisions:
        self.calls.append(f"list {namespace}".strip())
        return ListedRevisions(self.listed, "40")

    async def watch_revisions(self, namespace: str, since: str) -> AsyncGenerator[RevisionChange, None]:
        self.calls.append(f"watch {namespace} {since}".replace("  ", " "))
        if not self.watches:
            self.told.set()
            await asyncio.Event().wait()
        for each in self.watches.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


async def followed(
    cluster: Cluster, namespaces: Sequence[str] = (), pauses: list[float] | None = None
) -> Revisions:
    """What is known when all watches have told what they have to tell."""
    kube = cluster
    vitals = Vitals(lambda: 0.0, stale_after=180)
    revisions = Revisions(kube, namespaces)  # type: ignore[arg-type]  # only what is there is used
    informer = Informer(
        kube,  # type: ignore[arg-type]  # as above
        ResourceCache(),
        revisions,
        lambda _: None,
        vitals,
        Metrics(),
    )
    for scope in revisions.scopes:
        await informer.relist_revisions(scope)

    async def rest(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    watch = asyncio.create_task(
        RevisionWatch(kube, revisions, informer, rest).run()  # type: ignore[arg-type]  # as above
    )
    await asyncio.wait_for(cluster.told.wait(), 10)
    watch.cancel()
    await asyncio.wait([watch])
    return revisions


async def test_a_watch_that_ended_goes_on_where_it_was() -> None:
    """In time or broken off: what was told is not asked for again, and nothing is listed."""
    bookmark = RevisionChange("60")
    cluster = Cluster([RevisionChange("41", A), bookmark], [Unavailable("away")], [])
    revisions = await followed(cluster)
    assert cluster.calls == ["list", "watch 40", "watch 60", "watch 60", "watch 60"]
    assert revisions.by_owner() == {("default", "u1"): (A,)}


async def test_a_watch_from_too_long_ago_begins_anew_with_a_list() -> None:
    """The list is the truth: what it lacks is gone."""
    newer = replace(A, name="b", uid="r2")
    cluster = Cluster([RevisionChange("41", A), Expired("too old")], listed=[newer])
    revisions = await followed(cluster)
    assert cluster.calls == ["list", "watch 40", "list", "watch 40"]
    assert revisions.by_owner() == {("default", "u1"): (newer,)}


async def test_attempts_at_a_watch_that_fails_come_ever_later() -> None:
    """One that told something is begun again at once, as it were."""
    pauses: list[float] = []
    watches: list[Told] = [[Unavailable("away")]] * 7
    await followed(Cluster(*watches, [RevisionChange("50")]), pauses=pauses)
    assert pauses[0] < 1 < pauses[3] < pauses[6] <= LONGEST_PAUSE * 1.25
    assert pauses[7] < 1


@pytest.mark.parametrize("namespaces", [("one", "two")])
async def test_each_watched_namespace_is_followed_by_itself(namespaces: Sequence[str]) -> None:
    """A list of one says nothing of the other's."""
    cluster = Cluster()
    revisions = Revisions(cluster, namespaces)  # type: ignore[arg-type]  # as above
    cluster.listed = [replace(A, namespace="one")]
    await revisions.relist("one")
    cluster.listed = [replace(A, namespace="two", uid="r2")]
    await revisions.relist("two")
    assert set(revisions.by_owner()) == {("one", "u1"), ("two", "u1")}
    assert cluster.calls == ["list one", "list two"]
