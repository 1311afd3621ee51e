# SPDX-License-Identifier: Apache-2.0
"""The operator on a simulated world: convergence, steady state, crashes, drift, deletion, suspension."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lateen_api import names
from lateen_operator.seams import Key, Kind
from unit.operator_fakes import Crash, FakeOperator, FakeWorld, ready
from unit.operator_specs import (
    EMBEDDER,
    INDEX,
    LLM,
    PROMPT,
    catalog,
    everything,
    index,
    model,
    prompt,
    settled,
)


async def test_everything_becomes_ready_and_appears_in_the_catalog() -> None:
    """Each kind is Ready once the gateway serves a catalog that contains it."""
    world, _ = await settled()
    assert {ready(world, key) for key in (LLM, EMBEDDER, PROMPT, INDEX)} == {("True", "Ready")}
    served = catalog(world)
    assert [m.id for m in served.models] == ["embedder", "llm"]
    assert [p.id for p in served.prompts] == ["answer"]
    assert served.indexes[0].collection in world.collections
    assert world.aliases[served.indexes[0].alias] == served.indexes[0].collection


async def test_the_first_reconcile_writes_a_status() -> None:
    """Tools that wait on conditions see one after the first reconcile, with the generation it speaks about."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    await FakeOperator(world).once()
    status = world.resources[LLM].status
    assert status["observedGeneration"] == world.resources[LLM].generation
    assert [c["type"] for c in status["conditions"]] == ["Ready", "Reconciling", "Progressing"]


async def test_steady_state_writes_nothing() -> None:
    """Ten resyncs of a settled world cause no write anywhere."""
    world, operator = await settled()
    before = len(world.writes)
    for _ in range(10):
        world.tick(15)
        await operator.once()
    assert world.writes[before:] == []


async def test_the_next_look_starts_from_the_status_that_was_written() -> None:
    """What was put right before the watch told of the status is told, too."""
    world, operator = await settled()
    application = world.resources[LLM].status["application"]
    world.crash(application)
    await operator.reconciler.reconcile(LLM)
    assert ready(world, LLM) == ("False", "ReplicaFailed")
    world.heal(application)
    await operator.reconciler.reconcile(LLM)
    assert ready(world, LLM) == ("True", "Ready")


async def test_a_restarted_operator_rewrites_nothing_that_is_right() -> None:
    """A new process with an empty memory finds a settled world and leaves it alone."""
    world, operator = await settled()
    before = len(world.writes)
    operator.restart()
    await operator.once()
    assert world.writes[before:] == []


def _change_everything(world: FakeWorld) -> None:
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2"))
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))


def _delete_everything(world: FakeWorld) -> None:
    for key in list(world.resources):
        world.delete(key)


def _nothing(world: FakeWorld) -> None:
    pass


@pytest.mark.parametrize("change", [_nothing, _change_everything, _delete_everything])
async def test_killed_after_any_write_it_converges_to_the_same_end(
    change: Callable[[FakeWorld], None],
) -> None:
    """For every write of a run: an operator killed right after it and restarted reaches the undisturbed end state."""

    async def run(crash_after: int | None) -> tuple[FakeWorld, int]:
        world = everything(FakeWorld())
        operator = FakeOperator(world)
        if change is not _nothing:
            await operator.settle()
            change(world)
        start = len(world.writes)
        world.crash_after = None if crash_after is None else start + crash_after
        try:
            await operator.settle()
        except Crash:
            operator.restart()
            await operator.settle()
        return world, len(world.writes) - start

    reference, writes = await run(None)
    assert writes > 3
    for point in range(1, writes + 1):
        world, _ = await run(point)
        assert _outcome(world) == _outcome(reference), f"killed after write {point}"


def _outcome(world: FakeWorld) -> dict[str, Any]:
    """What counts of a world: what exists and whether it is Ready, without times."""
    return {
        "ready": {key: ready(world, key) for key in world.resources},
        "finalizers": {key: item.finalizers for key, item in world.resources.items()},
        "applications": {name: app.config for name, app in world.applications.items()},
        "collections": set(world.collections),
        "aliases": dict(world.aliases),
        "revisions": sorted(item.name for item in world.stored),
        "active jobs": [name for name, job in world.jobs.items() if job.status.value == "RUNNING"],
    }


async def test_an_application_deleted_in_ray_comes_back() -> None:
    """Drift in Ray is repaired at the next resync and told in an Event."""
    world, operator = await settled()
    gone = catalog(world).models[1].application
    world.applications[gone] = replace(world.applications[gone], status="DELETING")
    await operator.settle()
    assert world.applications[gone].status == "RUNNING"
    assert ("llm", "DriftRepaired") in world.events
    assert ready(world, LLM) == ("True", "Ready")


async def test_an_alias_pointed_elsewhere_comes_back() -> None:
    """Drift of the alias is repaired at the next resync and told in an Event."""
    world, operator = await settled()
    entry = catalog(world).indexes[0]
    world.collections.add("Lateen_Other")
    world.aliases[entry.alias] = "Lateen_Other"
    await operator.settle()
    assert world.aliases[entry.alias] == entry.collection
    assert ("handbook", "DriftRepaired") in world.events


async def test_a_lost_collection_is_built_again() -> None:
    """A collection deleted behind the operator's back is filled again and serves again."""
    world, operator = await settled()
    entry = catalog(world).indexes[0]
    world.collections -= {entry.collection, names.ledger_collection(entry.collection)}
    world.reports.clear()
    world.aliases.clear()
    await operator.settle()
    assert entry.collection in world.collections
    assert ready(world, INDEX) == ("True", "Ready")


async def test_deleting_everything_leaves_nothing_outside() -> None:
    """Applications, collections, aliases and jobs are gone when the resources are."""
    world, operator = await settled()
    _delete_everything(world)
    await operator.settle()
    assert not world.resources
    assert set(world.applications) == {names.GATEWAY_APPLICATION}
    assert not world.collections
    assert not world.aliases
    assert not world.jobs


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        (LLM, model(uri="pvc://models/z", suspend=True)),
        (PROMPT, prompt("9", suspend=True)),
        (INDEX, index(size=50, suspend=True)),
    ],
)
async def test_suspended_resources_stay_as_they_are(key: Key, changed: dict[str, Any]) -> None:
    """With suspend true nothing outside changes, and the condition says so."""
    world, operator = await settled()
    before = copy.deepcopy(_outcome(world))
    world.put(key.kind, key.name, changed)
    await operator.settle()
    assert ready(world, key) == ("True", "Suspended")
    after = _outcome(world)
    assert {k: v for k, v in after.items() if k != "ready"} == {
        k: v for k, v in before.items() if k != "ready"
    }
