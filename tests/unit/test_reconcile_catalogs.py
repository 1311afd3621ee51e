# SPDX-License-Identifier: Apache-2.0
"""What goes on while catalogs are on their way to a gateway that answers from an earlier one."""

from dataclasses import replace

import pytest

from lateen_api import names
from lateen_api.catalog import ApiKey, Catalog
from lateen_api.packing import pack
from lateen_operator.plan.reading import Reader
from lateen_operator.seams import Key, Kind
from unit.operator_fake_ray import FakeServe
from unit.operator_fakes import ready
from unit.operator_specs import EMBEDDER, INDEX, LLM, PROMPT, catalog, index, model, prompt, settled


async def test_another_prompt_leaves_the_status_of_models_and_indexes_alone() -> None:
    """They serve from the earlier catalog until the gateway takes the next: nothing about them is new."""
    world, operator = await settled()
    before = len(world.writes)
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    await operator.once()
    await operator.once()  # the gateway has not taken the catalog yet
    written = world.writes[before:]
    assert "serve config" in written
    assert {f"status {key.name}" for key in (LLM, EMBEDDER, INDEX)}.isdisjoint(written)
    world.tick()
    await operator.once()
    assert world.resources[PROMPT].status["version"] == "2"
    assert {f"status {key.name}" for key in (LLM, EMBEDDER, INDEX)}.isdisjoint(world.writes[before:])


async def test_an_operator_that_was_just_started_knows_the_catalog_it_found() -> None:
    """What the process before it applied counts as earlier, too."""
    world, operator = await settled()
    operator.restart()
    await operator.once()
    before = len(world.writes)
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    await operator.once()
    await operator.once()
    assert {f"status {key.name}" for key in (LLM, EMBEDDER, INDEX)}.isdisjoint(world.writes[before:])


async def test_a_drain_under_way_goes_on_while_prompts_change() -> None:
    """An old application goes when its time has come, however many catalogs are on their way by then."""
    world, operator = await settled()
    old = catalog(world).models[1].application
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    while catalog(world).models[1].application == old:
        await operator.once()
        world.tick()
    await operator.once()  # served without it: the drain begins
    for version in range(2, 7):
        world.put(Kind.PROMPT_TEMPLATE, "answer", prompt(str(version), f"{version}: {{question}}"))
        await operator.once()
        world.now += 1.0  # the gateway takes none of them meanwhile
    assert world.served_catalog != catalog(world).revision
    assert world.applications[old].status == "DELETING"


async def test_what_a_catalog_on_its_way_refers_to_does_not_go() -> None:
    """A collection that the gateway will query before it takes the newest catalog is kept until then."""
    world, operator = await settled()
    first = catalog(world).indexes[0].collection
    world.put(Kind.RAG_INDEX, "handbook", index(size=300))
    while catalog(world).indexes[0].collection == first:
        await operator.once()
        for name, job in list(world.jobs.items()):
            world.jobs[name] = world._ended(job)
    second = catalog(world).indexes[0].collection
    world.put(Kind.RAG_INDEX, "handbook", index(revisionHistoryLimit=0))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    for _ in range(8):
        await operator.once()
        world.now += 1.0
    assert catalog(world).indexes[0].collection == first
    assert second in world.collections
    await operator.settle()
    assert second not in world.collections


@pytest.mark.parametrize("is_known", [True, False])
async def test_an_index_is_deleted_once_the_gateway_answers_without_it(is_known: bool) -> None:
    """Its collections stay for as long as requests may be sent to them, also while nobody knows the gateway's catalog."""
    world, operator = await settled()
    collections = set(world.collections)
    world.delete(INDEX)
    if not is_known:
        world.served_catalog = None
    for _ in range(3):  # the gateway has not taken the catalog yet
        await operator.once()
    assert world.collections == collections
    assert INDEX in world.resources
    world.tick()
    await operator.once()
    assert world.collections == set()
    assert INDEX not in world.resources


async def test_a_gateway_that_fails_holds_no_deletion_up() -> None:
    """It will not take the catalog without the index, so that is not waited for."""
    world, operator = await settled()
    world.delete(INDEX)
    await operator.once()
    gateway = world.applications[names.GATEWAY_APPLICATION]
    world.applications[names.GATEWAY_APPLICATION] = replace(gateway, status="DEPLOY_FAILED")
    world.served_catalog = None
    await operator.once()
    assert INDEX not in world.resources


async def test_replicas_that_differ_tell_what_all_of_them_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one lags behind, statuses are those of its catalog: what is live stays live, what is new waits for it."""
    world, operator = await settled()
    same = world.put(Kind.PROMPT_TEMPLATE, "same", prompt("1")).key
    await operator.settle()
    monkeypatch.setattr(FakeServe, "lagging", frozenset({str(world.served_catalog)}))
    before = len(world.writes)
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    world.put(Kind.PROMPT_TEMPLATE, "other", prompt("1"))
    for _ in range(4):
        await operator.once()
        world.tick()
    assert world.served_catalog == catalog(world).revision
    other = Key(Kind.PROMPT_TEMPLATE, "default", "other")
    assert (world.resources[PROMPT].status["version"], ready(world, PROMPT)[0]) == ("1", "False")
    assert ready(world, other) == ("False", "Progressing")
    assert {f"status {key.name}" for key in (LLM, EMBEDDER, INDEX, same)}.isdisjoint(world.writes[before:])
    monkeypatch.setattr(FakeServe, "lagging", frozenset())
    await operator.once()
    assert (world.resources[PROMPT].status["version"], ready(world, PROMPT)[0]) == ("2", "True")
    assert ready(world, other) == ("True", "Ready")


def test_of_several_catalogs_the_first_that_was_applied_counts() -> None:
    """In whichever order replicas tell them; with one that nobody knows, nothing is known."""
    reader = Reader()
    catalogs = [Catalog(keys=[ApiKey(name=name, digest="0" * 64)]) for name in "abc"]
    for each in catalogs:
        reader.applied(pack(each.dump()), each)
    assert reader.oldest([catalogs[2].revision, catalogs[1].revision]) is catalogs[1]
    assert reader.oldest([catalogs[2].revision, "unknown"]) is None
    assert reader.oldest([]) is None


def test_catalogs_are_known_in_the_order_they_were_applied() -> None:
    """One that is applied again counts as the newest; of one that is not known nothing follows."""
    reader = Reader()
    catalogs = [Catalog(keys=[ApiKey(name=name, digest="0" * 64)]) for name in "abc"]
    for each in (*catalogs, catalogs[0]):
        reader.applied(pack(each.dump()), each)
    assert reader.after(catalogs[1].revision) == (catalogs[2], catalogs[0])
    assert reader.after("unknown") == ()
    assert reader.after(catalogs[0].revision) == ()
