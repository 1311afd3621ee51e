# SPDX-License-Identifier: Apache-2.0
"""What goes on while Weaviate does not answer."""

from lateen_operator.seams import Kind, StoreUnavailable
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import EMBEDDER, INDEX, LLM, PROMPT, catalog, model, prompt, settled


async def look(world: FakeWorld, operator: FakeOperator, rounds: int = 8) -> None:
    """Reconcile as the work queue does: what one resource has to wait for stops no other."""
    for _ in range(rounds):
        for kind in Kind:
            operator.cache.replace(kind, [each for each in world.resources.values() if each.key.kind is kind])
        await operator.revisions.relist("")
        await operator.reconciler.resync()
        for key in sorted(world.resources):
            try:
                await operator.reconciler.reconcile(key)
            except StoreUnavailable:
                assert key == INDEX  # nothing else needs Weaviate
        world.tick()


async def test_without_weaviate_models_and_prompts_are_changed_as_ever() -> None:
    """They roll out and say Ready, also under an operator that has just started; the index answers as it did, and waits."""
    world, operator = await settled()
    before = catalog(world).indexes
    world.store_away = True
    operator.restart()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt(version="2", text="Say: {question}"))
    await look(world, operator)
    assert {ready(world, key) for key in (LLM, EMBEDDER, PROMPT)} == {("True", "Ready")}
    assert ready(world, INDEX) == ("Unknown", "StoreUnavailable")
    assert catalog(world).prompts[0].revisions[0].spec.version == "2"
    assert catalog(world).indexes == before
    world.store_away = False
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")
    assert catalog(world).indexes == before


async def test_an_index_deleted_without_weaviate_waits_for_it() -> None:
    """Nothing is known of what is to be removed: it leaves the catalog, and its collections go when Weaviate is back."""
    world, operator = await settled()
    world.store_away = True
    world.delete(INDEX)
    await look(world, operator)
    assert catalog(world).indexes == []
    assert INDEX in world.resources
    assert world.collections
    world.store_away = False
    await operator.settle()
    assert INDEX not in world.resources
    assert not world.collections
    assert not world.aliases
