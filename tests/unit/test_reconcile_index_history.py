# SPDX-License-Identifier: Apache-2.0
"""Earlier revisions of an index: kept, listed, gone back to at once, pruned; on a simulated world."""

from dataclasses import replace
from typing import Any

import pytest

from lateen_api import names
from lateen_api.status_types import IndexRevisionStatus, RAGIndexStatus
from lateen_operator.seams import JobStatus, Key, Kind
from unit.operator_fakes import Crash, FakeOperator, FakeWorld, ready
from unit.operator_specs import INDEX, catalog, index, model, settled


def live(world: FakeWorld) -> str:
    """The collection that queries use."""
    return catalog(world).indexes[0].collection


def listed(world: FakeWorld) -> list[IndexRevisionStatus]:
    """`status.revisions`."""
    return RAGIndexStatus.model_validate(world.resources[INDEX].status).revisions or []


def jobs(world: FakeWorld) -> int:
    """Builds so far."""
    return len([write for write in world.writes if write.startswith("job ")])


async def changed(world: FakeWorld, operator: FakeOperator, **spec: Any) -> str:
    """The live collection after the index got another spec and all came to rest."""
    world.put(Kind.RAG_INDEX, "handbook", index(**spec))
    await operator.settle()
    world.tick(10)
    await operator.settle()
    return live(world)


async def test_an_earlier_revision_is_kept_listed_and_gone_back_to_without_a_build() -> None:
    """Both are in the status, newest first; the old spec moves the alias in one step, and no job runs."""
    world, operator = await settled()
    first = live(world)
    second = await changed(world, operator, size=100)
    assert [(row.collection, row.live, row.documents) for row in listed(world)] == [
        (second, True, 5),
        (first, False, 5),
    ]
    assert {first, names.ledger_collection(first)} <= world.collections
    before = jobs(world)
    world.put(Kind.RAG_INDEX, "handbook", index())
    await operator.once()
    assert set(world.aliases.values()) == {first}
    await operator.settle()
    assert live(world) == first
    assert jobs(world) == before
    assert [(row.collection, row.live) for row in listed(world)] == [(first, True), (second, False)]
    assert ready(world, INDEX) == ("True", "Ready")


async def test_a_kept_revision_is_brought_up_to_date_after_it_went_live() -> None:
    """What has changed in the sources meanwhile is synchronized then; queries don't wait for it."""
    world, operator = await settled()
    first = live(world)
    await changed(world, operator, size=100, text="newer")
    before = jobs(world)
    world.put(Kind.RAG_INDEX, "handbook", index(text="newer"))
    await operator.once()
    assert set(world.aliases.values()) == {first}
    assert jobs(world) == before
    await operator.settle()
    assert jobs(world) == before + 1
    sent = list(world.requests.values())[-1]
    assert (sent["collection"], sent["live"]) == (first, True)


async def test_a_kept_revision_reads_again_what_may_have_changed_elsewhere() -> None:
    """No fingerprint tells what a volume holds: going back is followed by one synchronization, and no more of them."""
    world, operator = await settled()
    volume: dict[str, Any] = {"sources": [{"name": "docs", "pvc": {"claimName": "docs"}}]}
    first = await changed(world, operator, **volume)
    await changed(world, operator, size=100, **volume)
    before = jobs(world)
    world.put(Kind.RAG_INDEX, "handbook", index(**volume))
    await operator.once()
    assert set(world.aliases.values()) == {first}
    await operator.settle()
    assert jobs(world) == before + 1
    sent = [one for one in world.requests.values() if one["collection"] == first][-1]
    assert sent["live"]
    world.tick(600)
    await operator.settle()
    assert jobs(world) == before + 1
    assert ready(world, INDEX) == ("True", "Ready")


@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_the_oldest_goes_first(limit: int) -> None:
    """As many as the spec says stay beside the live one; the others go with their ledgers and ControllerRevisions."""
    world, operator = await settled()
    first = live(world)
    later = [
        await changed(world, operator, size=size, revisionHistoryLimit=limit) for size in (100, 120, 140)
    ]
    expected = [first, *later][-1 - limit :]
    assert world.collections == {*expected, *map(names.ledger_collection, expected)}
    stored = [item for item in world.stored if item.owner == INDEX]
    assert len(stored) == limit + 1
    assert [row.collection for row in listed(world)] == expected[::-1]


async def test_going_back_makes_a_revision_the_newest() -> None:
    """So that it is not the first to go after the next change."""
    world, operator = await settled()
    first = live(world)
    second = await changed(world, operator, size=100)
    await changed(world, operator)
    third = await changed(world, operator, size=140)
    assert [row.collection for row in listed(world)] == [third, first]
    assert second not in world.collections


async def test_a_lower_limit_takes_effect_at_once() -> None:
    """Without a build."""
    world, operator = await settled()
    first = live(world)
    second = await changed(world, operator, size=100)
    before = jobs(world)
    await changed(world, operator, size=100, revisionHistoryLimit=0)
    assert world.collections == {second, names.ledger_collection(second)}
    assert first not in world.collections
    assert jobs(world) == before


async def test_what_was_never_live_is_no_history() -> None:
    """A collection that was refused goes as soon as the spec asks for another, which need not be live for that."""
    world, operator = await settled()
    first = live(world)
    world.recall = 0.1
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.settle_rounds(6)
    refused = world.collections - {first, names.ledger_collection(first)}
    assert len(refused) == 2
    assert [row.collection for row in listed(world)] == [first]
    world.put(Kind.RAG_INDEX, "handbook", index(size=140))
    await operator.settle_rounds(10)
    assert not refused & world.collections
    assert first in world.collections
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")


async def test_a_build_that_is_no_longer_wanted_is_stopped_before_its_collection_goes() -> None:
    """A job that still writes would bring its collection back."""
    world, operator = await settled()
    first = live(world)
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.once()
    running = [job for job in world.jobs.values() if job.status is JobStatus.RUNNING]
    assert len(running) == 1
    collection = world.requests[running[0].id]["collection"]
    world.collections |= {collection, names.ledger_collection(collection)}
    world.put(Kind.RAG_INDEX, "handbook", index())
    await operator.once()
    assert world.jobs[running[0].id].status is JobStatus.STOPPED
    assert collection in world.collections
    world.tick(10)
    await operator.settle()
    assert world.collections == {first, names.ledger_collection(first)}


async def test_a_model_that_goes_back_takes_its_index_with_it() -> None:
    """The vectors of the embedder's earlier revision are still there: nothing is embedded again."""
    world, operator = await settled()
    first = live(world)
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("embed", "pvc://models/other"))
    await operator.settle()
    world.tick(10)
    await operator.settle()
    assert live(world) != first
    before = jobs(world)
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("embed", "pvc://models/e"))
    await operator.settle()
    assert live(world) == first
    assert jobs(world) == before


async def test_killed_after_any_write_history_and_collections_agree() -> None:
    """Whatever the last write was, a restarted operator ends with the live collection, one kept, and their revisions."""
    for last in range(1, 40):
        world, operator = await settled()
        first = live(world)
        world.crash_after = len(world.writes) + last
        world.put(Kind.RAG_INDEX, "handbook", index(size=100))
        try:
            await operator.settle()
            world.tick(10)
            await operator.settle()
        except Crash:
            operator.restart()
        else:
            return
        await operator.settle()
        world.tick(10)
        await operator.settle()
        assert {row.collection for row in listed(world)} == {first, live(world)}
        assert len({item.revision for item in world.stored if item.owner == INDEX}) == 2
    raise AssertionError("no round came to its end")


async def test_indexes_whose_names_look_alike_keep_their_own() -> None:
    """Pruning and deleting touch nothing of another index, whatever it is called."""
    world, operator = await settled()
    for name in ("hand-book", "handbook2"):
        world.put(Kind.RAG_INDEX, name, index(revisionHistoryLimit=0))
    await operator.settle()
    others = {one.id: one.collection for one in catalog(world).indexes if one.id != "handbook"}
    await changed(world, operator, size=100, revisionHistoryLimit=0)
    world.delete(INDEX)
    await operator.settle()
    kept = set(others.values())
    assert world.collections == {*kept, *map(names.ledger_collection, kept)}
    assert set(world.aliases.values()) == kept
    assert ready(world, Key(Kind.RAG_INDEX, "default", "hand-book")) == ("True", "Ready")


@pytest.mark.parametrize("size", [100, 10_000], ids=["readable", "unreadable"])
async def test_retained_collections_stay_and_are_never_taken_over(size: int) -> None:
    """All of them, told by an Event; the alias goes. An index of the same name builds its own and deletes only that."""
    world, operator = await settled()
    first = live(world)
    second = await changed(world, operator, size=100)
    kept = {first, second, *map(names.ledger_collection, (first, second))}
    world.put(Kind.RAG_INDEX, "handbook", index(size=size, deletionPolicy="Retain"))
    await operator.once()
    world.delete(INDEX)
    await operator.settle()
    assert INDEX not in world.resources
    assert world.collections == kept
    assert not world.aliases
    assert ("handbook", "Retained") in world.events
    assert ("handbook", "Deleted") not in world.events

    world.stored.clear()  # what it owned goes with it
    world.put(Kind.RAG_INDEX, "handbook", index(), uid="uid-another-0000")
    before = jobs(world)
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")
    assert live(world) not in kept
    assert jobs(world) == before + 1
    world.delete(INDEX)
    await operator.settle()
    assert world.collections == kept


async def test_a_catalog_entry_of_an_earlier_resource_of_the_name_is_not_taken_over() -> None:
    """One whose finalizer somebody removed is still in the deployed catalog: queries don't reach what it left behind."""
    world, operator = await settled()
    first = live(world)
    world.resources[INDEX] = replace(world.resources[INDEX], finalizers=())
    world.delete(INDEX)
    world.stored.clear()  # what it owned goes with it
    world.put(Kind.RAG_INDEX, "handbook", index(), uid="uid-another-0000")
    await operator.once()
    await operator.once()
    assert first in world.collections
    assert not catalog(world).indexes
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")
    assert live(world) != first


async def test_the_ledger_of_a_lost_live_collection_is_not_swept() -> None:
    """The build that fills the collection again writes to it."""
    world, operator = await settled()
    first = live(world)
    world.collections.discard(first)
    world.reports.pop(first)
    for _ in range(4):
        await operator.once()
        world.now += 5
    assert f"no collection {names.ledger_collection(first)}" not in world.writes
    await operator.settle()
    assert world.collections == {first, names.ledger_collection(first)}
