# SPDX-License-Identifier: Apache-2.0
"""Autoscaled models, their replicas and adapters on a simulated world."""

from dataclasses import replace
from typing import Any

import pytest

from lateen_api import names
from lateen_api.gateway_report import AdapterFact
from lateen_api.serve_config import AdapterArguments
from lateen_operator.seams import Backoff, Kind, Node
from unit.operator_fake_ray import FACTS
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import LLM, catalog, model

AUTO: dict[str, Any] = {"minReplicas": 0, "maxReplicas": 4, "scaleToZeroDelay": "1m"}


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


def scaled(world: FakeWorld) -> str:
    """The message of Scaled=False; empty without that condition."""
    found = [each for each in status(world)["conditions"] if each["type"] == "Scaled"]
    assert all((each["status"], each["reason"]) == ("False", "Unschedulable") for each in found)
    return "".join(each["message"] for each in found)


SLOW = "Deployment 'Model' has 2 replicas that have taken more than 30s to be scheduled. Resources: 1 CPU."
ASKED = "no node has room now: a replica asks for 1 CPU, 1Gi memory"


@pytest.mark.parametrize(
    ("running", "target", "waited", "said", "condition", "words"),
    [
        (0, 1, 10, "", ("True", "WarmingUp"), ""),
        (0, 1, 40, "", ("False", "Unschedulable"), ""),
        (0, 3, 40, SLOW, ("False", "Unschedulable"), ""),
        (1, 3, 10, "", ("True", "Ready"), ""),
        (1, 3, 40, "", ("True", "Ready"), f"1 of 3 replicas serve; {ASKED}"),
        (1, 3, 40, SLOW, ("True", "Ready"), f"1 of 3 replicas serve; no node has room now: {SLOW}"),
    ],
)
async def test_replicas_without_room_are_told_and_heal(
    running: int, target: int, waited: int, said: str, condition: tuple[str, str], words: str
) -> None:
    """A woken model without a replica is not Ready; one that has some is, and says that it can't grow; room heals both."""
    world, operator, application = await started(autoscaling=AUTO)
    world.autoscale(application, running)
    await operator.settle()
    world.is_full = True
    world.autoscale(application, target)
    message = (said,) if said else ()
    world.applications[application] = replace(world.applications[application], deployment_messages=message)
    world.tick(waited)
    await operator.once()
    assert (ready(world, LLM), scaled(world)) == (condition, words)
    if condition[0] == "False":
        assert (f"no node has room now: {said}" if said else ASKED) in status(world)["conditions"][0][
            "message"
        ]
    world.is_full = False
    await operator.settle()
    assert (ready(world, LLM), scaled(world)) == (("True", "Ready"), "")


async def test_replicas_that_find_no_room_are_looked_at_ever_later() -> None:
    """They may lack it for days; those that start are looked at each second."""
    world, operator, application = await started(replicas=2)
    world.autoscale(application, 1)
    world.autoscale(application, 2)
    await operator.once()
    assert await operator.reconciler.reconcile(LLM) == 1.0
    world.is_full = True
    world.autoscale(application, 1)
    world.autoscale(application, 2)
    world.tick(40)
    await operator.once()
    assert scaled(world)
    assert await operator.reconciler.reconcile(LLM) == Backoff(1.0, 30.0, "Unschedulable")


async def test_a_woken_model_that_finds_no_room_may_fall_asleep_again() -> None:
    """When nobody asks for it any more it is Ready, and idle."""
    world, operator, application = await started(autoscaling=AUTO)
    world.autoscale(application, 0)
    world.is_full = True
    world.autoscale(application, 1)
    world.tick(40)
    await operator.once()
    assert ready(world, LLM) == ("False", "Unschedulable")
    world.autoscale(application, 0)
    await operator.settle()
    assert ready(world, LLM) == ("True", "ScaledToZero")


@pytest.mark.parametrize("ray", ["RUNNING", "DEPLOYING"])
async def test_a_model_scaled_by_hand_beyond_the_nodes_goes_on_serving(ray: str) -> None:
    """`kubectl scale` to what does not fit leaves Ready as it is, whatever Ray calls its application meanwhile."""
    world, operator, application = await started()
    world.nodes = (Node({"CPU": 0.5, "memory": 64e9}),)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas=3))
    await operator.once()
    world.applications[application] = replace(
        world.applications[application], status=ray, running_replicas=1, starting_replicas=2
    )
    await operator.once()
    assert ready(world, LLM) == ("True", "Ready")
    assert scaled(world) == "1 of 3 replicas serve; CPU: a replica asks for 1, the largest node has 0.5"


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
    assert status(world)["url"] == "/v1"


def said(world: FakeWorld, application: str, **adapters: str | None) -> None:
    """Replicas report on these adapters of `spec_of`: None loaded, else why not; others they have not tried."""
    found = {
        name: AdapterFact(
            identity=AdapterArguments(name=name, uri=f"pvc://models/{name}").identity,
            reason="SourceNotFound" if problem else "",
            message=problem or "",
        )
        for name, problem in adapters.items()
    }
    world.facts[application] = FACTS.model_copy(update={"adapters": found})


def spec_of(*adapters: str) -> list[dict[str, str]]:
    """Adapters of a spec."""
    return [{"name": name, "uri": f"pvc://models/{name}"} for name in adapters]


async def test_adapters_are_listed_and_ready_once_replicas_have_them() -> None:
    """The replicas get them in place; the catalog lists those that answer, and the status says why others don't."""
    world, operator, application = await started()
    said(world, application)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(adapters=spec_of("sales", "legal")))
    await operator.once()
    world.tick()
    await operator.once()
    assert ready(world, LLM) == ("False", "Progressing")
    (entry,) = catalog(world).models
    assert (entry.adapters, entry.loading_adapters) == ([], ["legal", "sales"])
    given = deployment(world, application)["user_config"]["adapters"]
    assert [each["name"] for each in given] == ["legal", "sales"]
    said(world, application, legal=None, sales="no such folder")
    await operator.settle_rounds(3)
    assert ready(world, LLM) == ("False", "AdapterFailed")
    assert "sales: no such folder (SourceNotFound)" in status(world)["conditions"][0]["message"]
    (entry,) = catalog(world).models
    assert (entry.adapters, entry.failed_adapters) == (["legal"], ["sales"])
    assert status(world)["adapters"] == [
        {"name": "legal", "modelId": "llm:legal", "ready": True},
        {
            "name": "sales",
            "modelId": "llm:sales",
            "ready": False,
            "reason": "SourceNotFound",
            "message": "no such folder",
        },
    ]
    said(world, application, legal=None, sales=None)
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert catalog(world).models[0].adapters == ["legal", "sales"]
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    await operator.settle()
    assert catalog(world).models[0].adapters == []
    assert deployment(world, application)["user_config"]["adapters"] == []
    assert "adapters" not in status(world)
    assert world.restarts.count(application) == 1


async def test_an_adapter_is_not_ready_while_its_former_weights_answer() -> None:
    """Other weights under the same name: it stays callable, and Ready waits for the new ones."""
    world, operator, application = await started(adapters=spec_of("sales"))
    said(world, application, sales=None)
    changed = [{"name": "sales", "uri": "pvc://models/better"}]
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(adapters=changed))
    await operator.settle_rounds(3)
    assert ready(world, LLM) == ("False", "Progressing")
    assert catalog(world).models[0].adapters == ["sales"]
    del world.facts[application]
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")


async def test_adapters_stay_listed_while_nothing_is_heard() -> None:
    """Replicas that crash, or a gateway that says nothing, take no adapter away."""
    world, operator, application = await started(adapters=spec_of("sales"))
    world.crash(application)
    await operator.settle_rounds(2)
    assert catalog(world).models[0].adapters == ["sales"]


async def test_an_adapter_of_a_sleeping_model_can_be_called() -> None:
    """The call wakes the model, and its replica loads the adapter before it serves."""
    world, operator, application = await started(autoscaling=AUTO)
    world.autoscale(application, 0)
    said(world, application)
    await operator.settle()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(autoscaling=AUTO, adapters=spec_of("sales")))
    await operator.settle()
    assert catalog(world).models[0].adapters == ["sales"]
    assert ready(world, LLM) == ("True", "ScaledToZero")


async def test_more_requests_at_a_time_reach_running_replicas() -> None:
    """The engine's number of rows goes with the user_config, so that no replica is started anew."""
    world, operator, application = await started(limits={"maxOngoingRequests": 4})
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(limits={"maxOngoingRequests": 9, "maxQueuedRequests": 3}))
    await operator.settle()
    found = deployment(world, application)
    assert found["user_config"]["maxOngoingRequests"] == found["max_ongoing_requests"] == 9
    assert found["max_queued_requests"] == catalog(world).models[0].max_queued_requests == 3
    assert world.restarts.count(application) == 1


async def test_the_url_is_the_gateways_where_it_is_known() -> None:
    """What a setting says is the base URL that clients take."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    await FakeOperator(world, gateway_url="https://models.example.com/v1/").settle()
    assert status(world)["url"] == "https://models.example.com/v1"
