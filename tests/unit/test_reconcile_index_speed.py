# SPDX-License-Identifier: Apache-2.0
"""What the status of an index says for `lateen plan`, and which embedder its collection is of, on a simulated world."""

from typing import Any

from lateen_operator.seams import Kind
from unit.operator_fakes import FakeOperator, FakeWorld
from unit.operator_specs import INDEX, catalog, index, model, settled


async def _after(world: FakeWorld, operator: FakeOperator, **report: Any) -> dict[str, Any] | None:
    """The speed in the status once the live collection's report has these fields."""
    collection = catalog(world).indexes[0].collection
    world.reports[collection] = world.reports[collection].model_copy(update=report)
    await operator.settle()
    found: dict[str, Any] | None = world.resources[INDEX].status.get("embedding")
    return found


async def test_the_speed_of_the_last_telling_build_is_kept() -> None:
    """A synchronization that embeds less than a tenth of the index does not replace what an earlier one has measured."""
    world, operator = await settled()
    times = {"started_at": "2026-01-02T00:00:00Z", "finished_at": "2026-01-02T00:00:09.5Z"}
    first = {"embedder": "embedder", "passages": 90, "tokens": 900, "seconds": 10}
    assert await _after(world, operator, embedded=90, embedded_tokens=900, tokens=900, **times) == first
    assert await _after(world, operator, embedded=1, embedded_tokens=9, tokens=909, **times) == first
    assert await _after(world, operator, embedded=0, embedded_tokens=0, tokens=909, **times) == first
    again = await _after(world, operator, embedded=20, embedded_tokens=100, tokens=1000, **times)
    assert again == {"embedder": "embedder", "passages": 20, "tokens": 100, "seconds": 10}


async def test_another_embedder_of_the_same_spec_gets_a_collection_of_its_own() -> None:
    """Vectors are stamped with their embedder's name: queries through another one would be refused."""
    world, operator = await settled()
    before = catalog(world).indexes[0]
    world.put(Kind.MODEL_DEPLOYMENT, "twin", model("embed", "pvc://models/e"))
    world.put(Kind.RAG_INDEX, "handbook", index(embedding={"modelRef": {"name": "twin"}}))
    await operator.settle()
    after = catalog(world).indexes[0]
    assert (before.embedder_revision, after.embedder) == (after.embedder_revision, "twin")
    assert after.collection != before.collection
