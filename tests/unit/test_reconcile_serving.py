# SPDX-License-Identifier: Apache-2.0
"""Models and prompts on a simulated world: revisions, failures, scaling, history."""

from lateen_operator.seams import Kind
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import (
    EMBEDDER,
    INDEX,
    LLM,
    PROMPT,
    catalog,
    model,
    prompt,
    settled,
)


async def test_a_new_model_revision_serves_only_once_it_runs() -> None:
    """The old application stays in the catalog and in Ray until the new one is RUNNING, then goes."""
    world, operator = await settled()
    old = catalog(world).models[1].application
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    await operator.once()
    assert catalog(world).models[1].application == old
    assert ready(world, LLM) == ("False", "Progressing")
    world.tick()
    await operator.once()
    assert catalog(world).models[1].application != old
    assert world.applications[old].status == "RUNNING"
    await operator.settle()
    assert old not in world.applications
    assert ready(world, LLM) == ("True", "Ready")


async def test_a_failing_revision_keeps_the_old_one_serving_and_heals() -> None:
    """Missing weights show their reason, are retried with backoff, and heal when they appear."""
    world, operator = await settled()
    old = catalog(world).models[1].application
    text = "Traceback...\nlateen-failure SourceNotFound: no folder models/b in the volume\n"
    world.broken["pvc://models/b"] = text
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    for _ in range(4):
        await operator.once()
        world.tick()
    await operator.once()
    assert ready(world, LLM) == ("False", "SourceNotFound")
    assert catalog(world).models[1].application == old
    world.broken.clear()
    world.tick(400)
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert catalog(world).models[1].application != old


async def test_scaling_changes_the_application_in_place() -> None:
    """Another number of replicas is the same application with the same arguments."""
    world, operator = await settled()
    before = catalog(world).models[1].application
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas=3))
    await operator.settle()
    config = world.applications[before].config
    assert config is not None
    assert config["deployments"][0]["num_replicas"] == 3
    assert world.resources[LLM].status["readyReplicas"] == 3


async def test_zero_replicas_take_the_model_out_of_service() -> None:
    """With replicas 0 the model leaves the catalog and Ray, and says why it is not Ready."""
    world, operator = await settled()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas=0))
    await operator.settle()
    assert ready(world, LLM) == ("False", "NoReplicas")
    assert not [name for name in world.applications if name.startswith("default_llm_")]


async def test_too_large_a_request_is_unschedulable() -> None:
    """A replica that asks for more CPUs than any node has is refused with numbers."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(resources={"cpu": "64"}))
    world.broken["pvc://models/a"] = "no resources"
    operator = FakeOperator(world)
    await operator.once()
    world.tick()
    await operator.once()
    assert ready(world, LLM) == ("False", "Unschedulable")
    assert "asks for 64, the largest node has 8" in world.resources[LLM].status["conditions"][0]["message"]


async def test_a_broken_template_keeps_the_previous_version_live() -> None:
    """A placeholder that is not declared is refused by name; the old version goes on, also after a restart."""
    world, operator = await settled()
    live = catalog(world).prompts[0].revisions[0].revision
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say {nothing} to {question}"))
    operator.restart()
    await operator.settle()
    assert ready(world, PROMPT) == ("False", "InvalidTemplate")
    assert "nothing" in world.resources[PROMPT].status["conditions"][0]["message"]
    assert catalog(world).prompts[0].revisions[0].revision == live


async def test_prompt_history_is_bounded_and_pinnable() -> None:
    """Old versions stay in the catalog for callers that pin them, at most ten in all."""
    world, operator = await settled()
    for number in range(2, 15):
        world.put(Kind.PROMPT_TEMPLATE, "answer", prompt(str(number)))
        await operator.settle()
    versions = [item.spec.version for item in catalog(world).prompts[0].revisions]
    assert versions == [str(number) for number in range(14, 4, -1)]
    assert len([item for item in world.stored if item.owner_uid == world.resources[PROMPT].uid]) == 10


async def test_an_embedder_in_use_is_kept_until_its_index_goes() -> None:
    """Deleting a model that an index refers to waits, says who uses it, and goes on serving."""
    world, operator = await settled()
    world.delete(EMBEDDER)
    await operator.settle()
    assert ready(world, EMBEDDER) == ("False", "InUse")
    assert "handbook" in world.resources[EMBEDDER].status["conditions"][0]["message"]
    assert catalog(world).indexes
    world.delete(INDEX)
    await operator.settle()
    assert EMBEDDER not in world.resources


async def test_an_unreadable_spec_is_reported_with_its_field() -> None:
    """A spec that an older CRD let through is InvalidSpec with the path of the field, and nothing else happens."""
    world, operator = await settled()
    before = catalog(world)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas="many"))
    await operator.settle()
    assert ready(world, LLM) == ("False", "InvalidSpec")
    assert "spec.replicas" in world.resources[LLM].status["conditions"][0]["message"]
    assert catalog(world) == before


async def test_a_new_revision_is_announced_once_it_serves() -> None:
    """RolledOut is posted for models and prompts when the gateway serves the new revision, and not before."""
    world, operator = await settled()
    before = {key: world.resources[key].status["revision"] for key in (LLM, PROMPT)}
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b"))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2"))
    await operator.once()
    assert {key: world.resources[key].status["revision"] for key in (LLM, PROMPT)} == before
    assert not [event for event in world.events if event[1] == "RolledOut"]
    await operator.settle()
    assert sorted(event for event in world.events if event[1] == "RolledOut") == [
        ("answer", "RolledOut"),
        ("llm", "RolledOut"),
    ]
    assert all(world.resources[key].status["revision"] != before[key] for key in (LLM, PROMPT))
