# SPDX-License-Identifier: Apache-2.0
"""Autoscaled models, their replicas and adapters on a simulated world."""

from typing import Any

import pytest

from lateen_api import names
from lateen_api.gateway_report import Facts
from lateen_operator.seams import Kind
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import LLM, catalog, model

AUTO: dict[str, Any] = {"minReplicas": 0, "maxReplicas": 4, "scaleToZeroDelay": "1m"}
FACTS = Facts(
    parameters=100,
    context_tokens=512,
    dtype="float32",
    memory_bytes=12345,
    load_seconds=1.2,
    engine="transformers",
    engine_reason="there is no GPU",
)


async def started(**more: Any) -> tuple[FakeWorld, FakeOperator, str]:
    """A world with one model that is Ready; also its application."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(**more))
    operator = FakeOperator(world)
    await operator.settle()
    (entry,) = catalog(world).models
    return world, operator, entry.application


def deployment(world: FakeWorld, application: str) -> dict[str, Any]:
    """The deployment in an application's config."""
    config = world.applications[application].config
    assert config is not None
    found: dict[str, Any] = config["deployments"][0]
    return found


def status(world: FakeWorld) -> dict[str, Any]:
    """The model's status."""
    return dict(world.resources[LLM].status)


async def test_a_model_that_may_sleep_first_proves_itself_with_one_replica() -> None:
    """It starts with one, and once it has run Ray is free to go to zero; no later change wakes or shrinks it."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(autoscaling=AUTO))
    operator = FakeOperator(world)
    await operator.once()
    (application,) = [name for name in world.applications if name != names.GATEWAY_APPLICATION]
    scaling = deployment(world, application)["autoscaling_config"]
    assert (scaling["initial_replicas"], scaling["min_replicas"], scaling["max_replicas"]) == (1, 0, 4)
    await operator.settle()
    assert deployment(world, application)["autoscaling_config"]["initial_replicas"] is None
    assert world.restarts.count(application) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"maxQueuedRequests": 7, "maxOngoingRequests": 9, "requestTimeout": "9s"}},
        {"adapters": [{"name": "support", "uri": "pvc://models/support"}]},
        {"autoscaling": AUTO | {"maxReplicas": 8}},
    ],
)
async def test_a_change_under_load_neither_restarts_nor_takes_replicas_away(change: dict[str, Any]) -> None:
    """Three busy replicas stay three, and the same processes."""
    world, operator, application = await started(autoscaling=AUTO)
    world.autoscale(application, 3)
    await operator.settle()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(**({"autoscaling": AUTO} | change)))
    await operator.settle()
    assert world.applications[application].running_replicas == 3
    assert world.restarts.count(application) == 1
    assert ready(world, LLM)[0] == "True"


async def test_fixed_replicas_and_autoscaling_replace_each_other_in_place() -> None:
    """Without a restart, from the number there is."""
    world, operator, application = await started(replicas=2)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(autoscaling=AUTO))
    await operator.settle()
    assert "num_replicas" not in deployment(world, application)
    assert world.applications[application].running_replicas == 2
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas=1))
    await operator.settle()
    assert "autoscaling_config" not in deployment(world, application)
    assert world.restarts.count(application) == 1


async def test_an_idle_model_is_ready_at_zero_and_says_when_it_wakes() -> None:
    """ScaledToZero and WarmingUp are states of a Ready model."""
    world, operator, application = await started(autoscaling=AUTO)
    world.autoscale(application, 0)
    await operator.settle()
    assert ready(world, LLM) == ("True", "ScaledToZero")
    assert status(world)["replicas"] == 0
    world.autoscale(application, 1)
    await operator.once()
    assert ready(world, LLM) == ("True", "WarmingUp")
    assert (status(world)["readyReplicas"], status(world)["startingReplicas"]) == (0, 1)
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert [reason for _, reason in world.events].count("Scaled") == 2


async def test_a_model_that_can_not_wake_is_not_ready() -> None:
    """A replica that fails to start is no warm-up."""
    world, operator, application = await started(autoscaling=AUTO)
    world.autoscale(application, 0)
    await operator.settle()
    world.autoscale(application, 1)
    world.crash(application)
    await operator.once()
    assert ready(world, LLM) == ("False", "ReplicaFailed")


async def test_the_scaling_history_is_bounded_and_newest_first() -> None:
    """It has both numbers and why, and survives the operator."""
    world, operator, application = await started(autoscaling=AUTO)
    for target in (3, 2, 0, 1, 2, 3, 4, 3, 2, 1, 2, 3):
        world.autoscale(application, target)
        operator.restart()
        await operator.settle()
    history = status(world)["scalingHistory"]
    assert len(history) == 10
    assert (history[0]["from"], history[0]["to"], history[0]["reason"]) == (2, 3, "the load asks for more")
    assert history[8]["reason"] == "a request woke the model"
    assert history[9]["reason"] == "no request for 1m"


async def test_scaling_by_hand_is_history_too() -> None:
    """`kubectl scale` shows as such."""
    world, operator, _ = await started()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas=3))
    await operator.settle()
    (event,) = status(world)["scalingHistory"]
    assert (event["from"], event["to"], event["reason"]) == (1, 3, "spec.replicas was changed")
    assert status(world)["replicas"] == status(world)["readyReplicas"] == 3


async def test_ready_falls_when_replicas_crash_and_heals() -> None:
    """The failure is counted, told, and remembered when all is well again."""
    world, operator, application = await started()
    world.crash(application)
    await operator.once()
    assert ready(world, LLM) == ("False", "ReplicaFailed")
    assert "keeps serving" not in status(world)["conditions"][0]["message"]
    assert (status(world)["readyReplicas"], status(world)["failedReplicas"]) == (0, 1)
    world.heal(application)
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert status(world)["failedReplicas"] == 0
    assert status(world)["lastFailure"]["reason"] == "ReplicaFailed"


async def test_figures_that_waver_are_not_written_again() -> None:
    """Facts are those the first report had; a settled world writes nothing though every report differs."""
    world, operator, application = await started()
    world.facts[application] = FACTS
    await operator.settle()
    before = len(world.writes)
    for number in range(5):
        more = {"memory_bytes": 12345 + number, "load_seconds": 3.0 + number}
        world.facts[application] = FACTS.model_copy(update=more)
        await operator.once()
    assert len(world.writes) == before
    assert status(world)["facts"] == {
        "parameters": 100,
        "contextTokens": 512,
        "dtype": "float32",
        "memoryBytes": 12345,
        "loadSeconds": 2,
    }
    assert (status(world)["engine"], status(world)["engineReason"]) == ("transformers", "there is no GPU")
    assert status(world)["url"] == "/v1/chat/completions"


async def test_adapters_are_listed_and_ready_once_replicas_have_them() -> None:
    """The catalog lists them, the replicas get them in place, and the status says which of them answers."""
    world, operator, application = await started()
    world.facts[application] = FACTS
    adapters = [{"name": name, "uri": f"pvc://models/{name}"} for name in ("sales", "legal")]
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(adapters=adapters))
    await operator.once()
    world.tick()
    await operator.once()
    assert ready(world, LLM) == ("False", "Progressing")
    assert catalog(world).models[0].adapters == ["legal", "sales"]
    given = deployment(world, application)["user_config"]["adapters"]
    assert [each["name"] for each in given] == ["legal", "sales"]
    world.facts[application] = FACTS.model_copy(update={"adapters": {"legal": "", "sales": "no such folder"}})
    await operator.once()
    assert ready(world, LLM) == ("False", "AdapterFailed")
    assert status(world)["adapters"] == [
        {"name": "legal", "modelId": "llm:legal", "ready": True},
        {"name": "sales", "modelId": "llm:sales", "ready": False, "message": "no such folder"},
    ]
    world.facts[application] = FACTS.model_copy(update={"adapters": {"legal": "", "sales": ""}})
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    await operator.settle()
    assert catalog(world).models[0].adapters == []
    assert deployment(world, application)["user_config"] == {"adapters": []}
    assert "adapters" not in status(world)
    assert world.restarts.count(application) == 1
