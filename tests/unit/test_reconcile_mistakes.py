# SPDX-License-Identifier: Apache-2.0
"""What goes on when the operator fails at one resource by a mistake of its own."""

import asyncio
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lateen_operator import main
from lateen_operator.plan import indexes, models, prompts
from lateen_operator.seams import Key, Kind, Resource
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import EMBEDDER, INDEX, LLM, PROMPT, catalog, index, model, prompt, settled


class Mistake(Exception):
    """Nobody foresaw it; its words may be anything."""


def break_plan(monkeypatch: pytest.MonkeyPatch, module: ModuleType, key: Key) -> None:
    """Let the plan of one resource fail."""
    plan = module.plan

    def planned(resource: Resource, *seen: Any) -> Any:
        if resource.key == key:
            raise Mistake("password")
        return plan(resource, *seen)

    monkeypatch.setattr(module, "plan", planned)


async def look(world: FakeWorld, operator: FakeOperator, broken: Key) -> None:
    """Reconcile as the work queue does, for longer than anything drains: only the broken one may fail."""
    for _ in range(12):
        for kind in Kind:
            operator.cache.replace(kind, [each for each in world.resources.values() if each.key.kind is kind])
        await operator.reconciler.resync()
        for key in sorted(world.resources):
            if key != broken:
                await operator.reconciler.reconcile(key)
                continue
            with pytest.raises(Mistake):
                await operator.reconciler.reconcile(key)
        world.tick()


@pytest.mark.parametrize(("module", "broken"), [(models, LLM), (prompts, PROMPT), (indexes, INDEX)])
async def test_a_resource_that_cannot_be_planned_stops_no_other(
    module: ModuleType, broken: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so itself and stays as deployed; the others follow their specs."""
    world, operator = await settled()
    before = catalog(world)
    break_plan(monkeypatch, module, broken)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await look(world, operator, broken)
    after = catalog(world)
    stayed = {
        LLM: after.models == before.models,
        PROMPT: after.prompts == before.prompts,
        INDEX: after.indexes == before.indexes,
    }
    assert {key for key, stays in stayed.items() if stays} == {broken}
    others = {LLM, EMBEDDER, PROMPT, INDEX} - {broken}
    assert {ready(world, key) for key in others} <= {("True", "Ready"), ("True", "Synced")}
    assert ready(world, broken) == ("Unknown", "InternalError")
    (said,) = {
        each["message"] for each in world.resources[broken].status["conditions"] if each["type"] == "Ready"
    }
    assert "Mistake" in said
    assert "password" not in said
    monkeypatch.undo()
    await operator.settle()
    assert ready(world, broken)[0] == "True"


async def test_a_rollout_that_cannot_be_planned_any_more_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both revisions stay, the one that serves and the one that had just started."""
    world, operator = await settled()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    await operator.once()
    there = set(world.applications)
    assert len(there) == 4  # the gateway, the embedder, two revisions
    break_plan(monkeypatch, models, LLM)
    await look(world, operator, LLM)
    assert set(world.applications) == there


async def test_a_look_at_the_world_that_fails_is_tried_again() -> None:
    """The resync goes on as the work queue does, so that the operator does not end for it."""
    looks, again = 0, asyncio.Event()

    class Parts(SimpleNamespace):
        """All parts of an operator at once, as far as a resync uses them."""

        async def resync(self) -> None:
            nonlocal looks
            looks += 1
            if looks < 3:
                raise Mistake
            again.set()

    part = Parts(resync_seconds=0.001, resynced=lambda: None)
    informer = SimpleNamespace(resync=lambda: asyncio.sleep(0))
    parts: Any = SimpleNamespace(reconciler=part, vitals=part, settings=part, informer=informer)
    resync = asyncio.create_task(main._resync(parts))
    async with asyncio.timeout(10):
        await again.wait()
    resync.cancel()
    await asyncio.wait([resync])
