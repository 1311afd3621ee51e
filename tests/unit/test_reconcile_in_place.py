# SPDX-License-Identifier: Apache-2.0
"""What changes in place while a new revision is on its way, on a simulated world."""

from typing import Any

from lateen_operator.seams import Kind
from unit.operator_fake_ray import FACTS
from unit.operator_fakes import FakeWorld
from unit.operator_specs import model, settled
from unit.test_reconcile_rollouts import begun, changed, entry, rounds


def given(world: FakeWorld, application: str) -> dict[str, Any]:
    """What the replicas of an application are told while they serve."""
    config = world.applications[application].config
    assert config is not None
    found: dict[str, Any] = config["deployments"][0]["user_config"]
    return found


async def test_what_changes_in_place_reaches_both_revisions_of_a_canary() -> None:
    """Adapters and room for requests; the adapter is listed once both have it."""
    world, operator, old, application = await begun()
    support = {"name": "support", "uri": "pvc://models/support"}
    world.facts[application] = FACTS
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed(adapters=[support], limits={"maxOngoingRequests": 5}))
    await rounds(world, operator, 2)
    for name in (old.application, application):
        assert given(world, name) == {"adapters": [support], "maxOngoingRequests": 5}
    assert entry(world).canary is not None
    assert entry(world).loading_adapters == ["support"]
    del world.facts[application]
    await rounds(world, operator, 2)
    assert entry(world).canary is not None
    assert entry(world).adapters == ["support"]


async def test_an_adapter_that_changed_with_the_weights_belongs_to_the_new_revision() -> None:
    """The old revision keeps its own; a later change reaches both, and one taken off leaves both."""
    world, operator = await settled()
    first, second, third = ({"name": "support", "uri": f"pvc://models/{n}"} for n in range(3))
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(adapters=[first]))
    await operator.settle()
    old = entry(world)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed(adapters=[second]))
    await rounds(world, operator, 4)
    canary = entry(world).canary
    assert canary is not None
    assert given(world, old.application)["adapters"] == [first]
    assert given(world, canary.application)["adapters"] == [second]
    assert entry(world).adapters == ["support"]
    for adapters in ([third], []):
        world.put(Kind.MODEL_DEPLOYMENT, "llm", changed(adapters=adapters))
        await rounds(world, operator, 2)
        assert given(world, old.application)["adapters"] == adapters
        assert given(world, canary.application)["adapters"] == adapters
