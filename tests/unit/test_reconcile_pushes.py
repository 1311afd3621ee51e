# SPDX-License-Identifier: Apache-2.0
"""Documents that clients push, on a simulated world: what starts a build, what the gateway and the status say."""

import itertools
from collections.abc import Mapping

import pytest

from lateen_api import names
from lateen_api.catalog import Pushed
from lateen_api.index_build import BuildReport, SourceReport
from lateen_operator.plan import index_history, pushes
from lateen_operator.plan.world import World
from lateen_operator.seams import Job, Kind, PushState, StoreState
from lateen_operator.status import timestamp, unix
from unit.operator_fake_ray import FakeServe
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import INDEX, catalog, index, settled

PUSH = {"name": "docs", "push": {}}


def jobs(world: FakeWorld) -> int:
    """Builds that were started so far."""
    return len([write for write in world.writes if write.startswith("job ")])


async def taking() -> tuple[FakeWorld, FakeOperator, str]:
    """An index that takes pushed documents, settled, and its collection of them."""
    world, operator = await settled()
    world.source_reports = (SourceReport(name="docs", documents=0, cursor="0"),)
    world.put(Kind.RAG_INDEX, "handbook", index(sources=[PUSH]))
    await operator.settle()
    pushed = catalog(world).indexes[0].pushed
    assert pushed is not None
    return world, operator, pushed.collection


async def test_the_gateway_is_told_where_documents_go() -> None:
    """Only for an index with a source `push`, under a name of its namespace and uid."""
    world, operator = await settled()
    assert catalog(world).indexes[0].pushed is None
    world.put(Kind.RAG_INDEX, "handbook", index(sources=[PUSH], sync={"deletePolicy": "Keep"}))
    await operator.settle()
    uid = world.resources[INDEX].uid
    assert catalog(world).indexes[0].pushed == Pushed(
        source="docs",
        collection=names.pushed_collection("default", "handbook", uid),
        max_document_bytes=20 * 2**20,
        keeps=True,
    )


async def test_many_pushes_start_one_build() -> None:
    """The state is read at the next look; what is pushed while a build runs is the next build's."""
    world, operator, collection = await taking()
    before = jobs(world)
    for number in range(1, 6):
        world.pushed[collection] = PushState(f"{number}-abc", world.now)
    await operator.settle()
    assert jobs(world) == before + 1
    await operator.settle()
    assert jobs(world) == before + 1
    request = list(world.requests.values())[-1]
    assert request["pushed"] == collection


async def test_what_came_and_went_during_a_build_is_built_again() -> None:
    """Once: the state is what it was when the build was asked for, but the build has read another one."""
    world, operator, _ = await taking()
    before, live = jobs(world), catalog(world).indexes[0].collection
    report = world.reports[live]
    for read_at, more in ((timestamp(1.0), 0), (report.started_at, 1)):  # not read by this build; read
        source = SourceReport(name="docs", documents=1, cursor="1-abc", read_at=read_at)
        world.reports[live] = report.model_copy(update={"sources": [source]})
        await operator.settle()
        assert jobs(world) == before + more
    assert world.reports[live].sources[0].cursor == "0"


async def test_the_status_says_since_when_a_push_is_not_indexed() -> None:
    """From the first look on, until a build has seen it."""
    world, operator, collection = await taking()
    world.source_reports = (SourceReport(name="docs", documents=1, cursor="1-abc"),)
    pushed_at = world.now - 3
    world.pushed[collection] = PushState("1-abc", pushed_at)
    await operator.once()
    assert world.resources[INDEX].status["oldestUnindexedChange"] == timestamp(pushed_at)
    await operator.settle()
    assert "oldestUnindexedChange" not in world.resources[INDEX].status
    assert ready(world, INDEX) == ("True", "Ready")


async def test_a_suspended_index_says_what_it_lacks() -> None:
    """Pushes are taken all the same; nothing is built."""
    world, operator, collection = await taking()
    before, pushed_at = jobs(world), world.now - 3
    world.put(Kind.RAG_INDEX, "handbook", index(sources=[PUSH], suspend=True))
    world.pushed[collection] = PushState("1-abc", pushed_at)
    await operator.settle()
    assert world.resources[INDEX].status["oldestUnindexedChange"] == timestamp(pushed_at)
    assert jobs(world) == before
    assert catalog(world).indexes[0].pushed is not None


async def test_an_index_looks_for_pushes_by_itself() -> None:
    """Within seconds, without an event or a resync; others don't."""
    world, operator, _ = await taking()
    wish = await operator.reconciler.reconcile(INDEX)
    assert isinstance(wish, float)
    assert wish <= pushes.LOOK_SECONDS
    world.put(Kind.RAG_INDEX, "handbook", index())
    await operator.settle()
    assert await operator.reconciler.reconcile(INDEX) is None


async def test_a_deleted_index_takes_its_pushed_documents_with_it() -> None:
    """Its collection of them goes; that of another index stays."""
    world, operator, collection = await taking()
    other = names.pushed_collection("default", "handbook", "another-uid")
    world.collections |= {collection, other}
    world.delete(INDEX)
    await operator.settle()
    assert world.collections == {other}


@pytest.mark.parametrize("has_built", [True, False])
async def test_what_was_pushed_into_a_retained_index_stays(has_built: bool) -> None:
    """Beside its other collections, if there are any; the Event names it. Another index's is not named."""
    world, operator, collection = await taking()
    other = names.pushed_collection("default", "handbook", "another-uid")
    if not has_built:
        world.collections.clear()
    world.collections |= {collection, other}
    kept = frozenset(world.collections)
    world.put(Kind.RAG_INDEX, "handbook", index(sources=[PUSH], deletionPolicy="Retain"))
    told = index_history.retained(world.resources[INDEX], World(store=StoreState(kept)))
    assert told is not None
    assert f"what clients pushed: {collection}" in told.message
    assert other not in told.message
    assert ("_ledger" in told.message) == has_built
    world.delete(INDEX)
    await operator.settle()
    assert world.collections == kept
    assert ("handbook", "Retained") in world.events


async def test_what_a_build_makes_until_its_end_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted index leaves nothing behind, not even what is made right before the builds are seen to have ended."""
    world, operator, collection = await taking()
    listed, made = FakeServe.jobs, itertools.count()

    async def jobs(self: FakeServe) -> Mapping[str, Job]:
        world.collections.add(f"{collection}{next(made)}")
        return await listed(self)

    monkeypatch.setattr(FakeServe, "jobs", jobs)
    world.delete(INDEX)
    await operator.settle()
    assert next(made) > 0
    assert not world.collections


def test_a_change_that_no_row_tells_of_is_dated_by_the_last_build() -> None:
    """Such as the removal of a document long ago; nothing is lacking where the build has seen the state."""
    at = "2026-01-02T00:00:00+00:00"
    live = BuildReport(
        fingerprint="f", started_at=at, finished_at=at, documents=1, chunks=1, tokens=1, embedded=1, removed=0,
        failed=0, sources=[SourceReport(name="docs", documents=1, cursor="1-abc")],
    )  # fmt: skip
    assert pushes.unindexed(live, PushState("1-abc", 5.0)) is None
    assert pushes.unindexed(live, PushState("2-abc", 5.0)) == 5.0
    assert pushes.unindexed(live, PushState("0")) == unix(at)
    assert pushes.unindexed(None, PushState("2-abc", 5.0)) is None
    waiting = live.model_copy(
        update={"sources": [replace_pending(live.sources[0], "2026-01-01T00:00:00+00:00")]}
    )
    assert pushes.oldest(waiting, unix(at)) == "2026-01-01T00:00:00+00:00"
    assert pushes.oldest(live, None) is None


def replace_pending(source: SourceReport, since: str) -> SourceReport:
    """The same report of a source that lacks a change."""
    return source.model_copy(update={"pending_since": since})
