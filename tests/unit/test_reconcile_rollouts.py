# SPDX-License-Identifier: Apache-2.0
"""Canary, Recreate and history of models on a simulated world."""

from dataclasses import replace
from typing import Any

import pytest

from lateen_api import catalog as catalogs
from lateen_api.gateway_report import Traffic
from lateen_operator.seams import Kind
from unit.operator_fakes import Crash, FakeOperator, FakeWorld, ready
from unit.operator_specs import EMBEDDER, LLM, catalog, model, settled

CANARY: dict[str, Any] = {
    "strategy": "Canary",
    "steps": [{"weight": 10, "pause": "10s"}, {"weight": 50, "pause": "20s"}],
    "abort": {"maxErrorRatio": "0.1", "maxLatencyP95": "2s", "minRequests": 5},
}


def changed(uri: str = "pvc://models/b", **more: Any) -> dict[str, Any]:
    """The model with other weights, to be rolled out in steps."""
    return model(uri=uri, rollout=CANARY, **more)


def entry(world: FakeWorld) -> catalogs.Model:
    """The model in the catalog that the gateway was last given."""
    return next(each for each in catalog(world).models if each.id == "llm")


def weight(world: FakeWorld) -> int:
    """Percent that the new revision takes; 0 without a canary."""
    canary = entry(world).canary
    return canary.weight if canary else 0


async def rounds(world: FakeWorld, operator: FakeOperator, number: int) -> None:
    """Let that many seconds pass, with a look in each."""
    for _ in range(number):
        await operator.once()
        world.tick()


async def begun() -> tuple[FakeWorld, FakeOperator, catalogs.Model, str]:
    """A canary at its first step: also the old entry and the new application."""
    world, operator = await settled()
    old = entry(world)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed())
    await rounds(world, operator, 4)
    canary = entry(world).canary
    assert canary is not None
    return world, operator, old, canary.application


async def test_a_canary_takes_requests_in_steps_and_then_all() -> None:
    """It starts without traffic, goes from step to step by time, and becomes the model."""
    world, operator = await settled()
    old = entry(world)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed())
    seen: list[tuple[str, int]] = []
    for _ in range(60):
        await operator.once()
        if not seen or seen[-1] != (entry(world).revision, weight(world)):
            seen.append((entry(world).revision, weight(world)))
        world.tick()
    new = entry(world).revision
    assert new != old.revision
    assert seen == [(old.revision, 0), (old.revision, 10), (old.revision, 50), (new, 0)]
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert old.application not in world.applications
    told = [reason for name, reason in world.events if name == "llm"]
    assert told.count("CanaryStep") == 2
    assert told.count("RolledOut") == 1


async def test_a_step_lasts_as_long_as_its_pause() -> None:
    """Not shorter, whatever happens in between, a restart of the operator included."""
    world, operator, _, _ = await begun()
    canary = entry(world).canary
    assert canary is not None
    while weight(world) == 10:
        operator.restart()
        await rounds(world, operator, 1)
    assert entry(world).canary is not None
    assert world.now - 1 - canary.since >= 10


async def test_the_status_tells_how_far_a_canary_is() -> None:
    """Progressing has the step, traffic the shares, and Ready waits for the end."""
    world, _, old, _ = await begun()
    status = world.resources[LLM].status
    assert ready(world, LLM) == ("False", "Progressing")
    told = {each["type"]: each["message"] for each in status["conditions"]}
    assert "takes 10 % of the requests, step 1 of 2" in told["Progressing"]
    assert [share["weight"] for share in status["traffic"]] == [90, 10]
    assert status["revision"] == old.revision


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (Traffic(requests=10, errors=2), "2 of 10 requests failed (20.0%), 10.0% may"),
        (Traffic(requests=6, latencies=[0] * 9 + [6]), "its 95th percentile is up to 3s in 6 requests"),
    ],
)
async def test_a_canary_that_does_worse_is_given_up_for_good(traffic: Traffic, words: str) -> None:
    """All requests go to the old revision at once, the numbers are told, and a new operator doesn't try again."""
    world, operator, old, application = await begun()
    world.traffic[application] = traffic
    await operator.once()
    assert (entry(world).revision, weight(world)) == (old.revision, 0)
    world.traffic.clear()
    operator.restart()
    await operator.settle()
    assert ready(world, LLM) == ("False", "RolloutAborted")
    message = world.resources[LLM].status["conditions"][0]["message"]
    assert words in message
    assert f"Revision {old.revision} keeps serving." in message
    assert world.resources[LLM].status["lastFailure"]["reason"] == "RolloutAborted"
    assert application not in world.applications
    assert [reason for _, reason in world.events].count("RolledBack") == 1


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(requests=4, errors=4),
        Traffic(requests=10, errors=1),
        Traffic(requests=20, latencies=[0] * 8 + [19] + [0] * 9 + [1]),
    ],
)
async def test_a_canary_within_the_limits_goes_on(traffic: Traffic) -> None:
    """Too few requests prove nothing, and what the limits allow is no breach."""
    world, operator, old, application = await begun()
    world.traffic[application] = traffic
    await rounds(world, operator, 40)
    assert entry(world).revision != old.revision


async def test_a_canary_whose_replicas_die_is_given_up() -> None:
    """A crash loop takes no requests."""
    world, operator, old, application = await begun()
    world.crash(application)
    await operator.settle()
    assert ready(world, LLM) == ("False", "RolloutAborted")
    assert entry(world) == old


@pytest.mark.parametrize("frozen", [{"suspend": True}, {"resources": {"nodeLabels": {"not a label": "x"}}}])
async def test_a_frozen_canary_that_does_worse_is_given_up_all_the_same(frozen: dict[str, Any]) -> None:
    """Suspending a rollout, or breaking its spec, does not leave requests with a revision that fails them."""
    world, operator, old, new = await begun()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed(**frozen))
    await operator.settle()
    assert weight(world) == 10
    world.traffic[new] = Traffic(requests=10, errors=9)
    await rounds(world, operator, 3)
    assert (weight(world), entry(world).application) == (0, old.application)


async def test_requests_leave_a_failing_canary_though_it_can_not_be_noted() -> None:
    """Clients come first, and other models' changes are not held up."""
    world, operator, old, application = await begun()
    world.notes_refused = True
    world.traffic[application] = Traffic(requests=10, errors=10)
    await operator.once()
    assert entry(world) == old


async def test_removing_the_note_tries_again_and_another_spec_starts_afresh() -> None:
    """What was given up is only that revision, until somebody asks for it again."""
    world, operator, _, application = await begun()
    world.traffic[application] = Traffic(requests=10, errors=10)
    await operator.settle()
    world.traffic.clear()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed("pvc://models/c"))
    await rounds(world, operator, 3)
    assert weight(world) == 10
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed())
    await rounds(world, operator, 3)
    assert weight(world) == 0
    world.stored = [replace(item, aborted="") for item in world.stored]
    await rounds(world, operator, 3)
    assert weight(world) == 10


async def test_a_canary_ends_when_its_spec_is_taken_back() -> None:
    """The old revision serves everything again at once and is Ready."""
    world, operator, old, application = await begun()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(rollout=CANARY))
    await operator.once()
    assert entry(world) == old
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert application not in world.applications


async def test_a_step_that_the_gateway_never_served_is_not_passed() -> None:
    """What nobody saw proves nothing: while no gateway answers the canary stays where it is."""
    world, operator, _, _ = await begun()
    gateway = world.applications["gateway"]
    world.applications["gateway"] = replace(gateway, status="UNHEALTHY")
    await rounds(world, operator, 30)
    assert weight(world) == 10


async def test_a_canary_that_never_starts_takes_no_requests() -> None:
    """The old revision serves alone, and the reason is told."""
    world, operator = await settled()
    old = entry(world)
    world.broken["pvc://models/b"] = "lateen-failure SourceNotFound: no folder models/b\n"
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed())
    await rounds(world, operator, 5)
    assert entry(world) == old
    assert ready(world, LLM) == ("False", "SourceNotFound")


async def test_scaling_reaches_the_revision_that_serves_while_another_waits() -> None:
    """A broken new revision does not keep users from scaling the one they have."""
    world, operator = await settled()
    old = entry(world)
    world.broken["pvc://models/b"] = "broken"
    world.put(Kind.MODEL_DEPLOYMENT, "llm", changed(replicas=3))
    await rounds(world, operator, 3)
    assert world.applications[old.application].running_replicas == 3
    assert world.restarts.count(old.application) == 1


@pytest.mark.parametrize("failing", [False, True])
async def test_killed_after_any_write_a_canary_ends_the_same(failing: bool) -> None:
    """For every write of a canary that ends well, or is given up: a new operator goes on where the last one was."""
    brief = [{"weight": 10, "pause": "2s"}, {"weight": 50, "pause": "3s"}]

    async def run(crash_after: int | None) -> tuple[FakeWorld, int]:
        world = FakeWorld()
        world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
        operator = FakeOperator(world)
        await operator.settle()
        world.put(
            Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b", rollout=CANARY | {"steps": brief})
        )
        start = len(world.writes)
        world.crash_after = None if crash_after is None else start + crash_after
        for _ in range(25):
            canary = entry(world).canary
            if failing and canary is not None and canary.weight == 50:
                world.traffic[canary.application] = Traffic(requests=10, errors=10)
            try:
                await operator.once()
            except Crash:
                operator.restart()
            world.tick()
        return world, len(world.writes) - start

    reference, writes = await run(None)
    assert (len({item.aborted for item in reference.stored}) == 2) == failing
    assert writes > 5
    for point in range(1, writes + 1):
        world, _ = await run(point)
        assert _end(world) == _end(reference), f"killed after write {point}"


def _end(world: FakeWorld) -> dict[str, Any]:
    """What counts at the end of a rollout, without times."""
    return {
        "entry": entry(world),
        "ready": ready(world, LLM),
        "applications": sorted(world.applications),
        "revisions": sorted((item.name, item.aborted) for item in world.stored),
    }


async def test_recreate_stops_the_old_revision_before_the_new_one_starts() -> None:
    """The old one leaves the catalog, then Ray; only then is there room for the new one, for which requests wait."""
    world, operator = await settled()
    old = entry(world).application
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b", rollout={"strategy": "Recreate"}))
    together = 0
    for _ in range(20):
        await operator.once()
        ours = [name for name in world.applications if "_llm_" in name]
        together = max(together, len(ours))
        served = [each.application for each in catalog(world).models if each.id == "llm"]
        assert old in world.applications or old not in served
        assert served, "clients would get 404"
        world.tick()
    assert together == 1
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
    assert entry(world).application != old


async def test_recreate_does_not_stop_an_embedder_that_an_index_needs() -> None:
    """Its queries need the old vectors' embedder until the index is rebuilt: the two run beside each other."""
    world, operator = await settled()
    spec = model("embed", "pvc://models/f", rollout={"strategy": "Recreate"})
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", spec)
    for _ in range(40):
        await operator.once()
        assert [each for each in catalog(world).models if each.id == "embedder"]
        world.tick()
    await operator.settle()
    assert ready(world, EMBEDDER) == ("True", "Ready")


async def test_a_model_whose_spec_became_unreadable_can_be_deleted() -> None:
    """Another version of the operator may not know a field any more; that is no reason to keep the model for ever."""
    world, operator = await settled()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", {"task": "odd"})
    await operator.settle()
    assert ready(world, LLM) == ("False", "InvalidSpec")
    world.delete(LLM)
    await operator.settle()
    assert LLM not in world.resources
    assert not [name for name in world.applications if "_llm_" in name]


async def test_the_history_of_a_model_is_bounded_and_ends_with_the_wanted_revision() -> None:
    """Revisions are numbered; one that is wanted again becomes the newest, as `kubectl rollout undo` does it."""
    world, operator = await settled()
    for letter in "bcd":
        world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri=f"pvc://models/{letter}", revisionHistoryLimit=3))
        await operator.settle()
    assert _history(world) == ["pvc://models/b", "pvc://models/c", "pvc://models/d"]
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri="pvc://models/b", revisionHistoryLimit=3))
    await operator.settle()
    assert _history(world) == ["pvc://models/c", "pvc://models/d", "pvc://models/b"]


async def test_the_revision_that_serves_is_never_forgotten() -> None:
    """Not even when broken ones come one after the other and the history holds one."""
    world, operator = await settled()
    world.broken |= {f"pvc://models/{letter}": "broken" for letter in "bcd"}
    for letter in "bcd":
        world.put(Kind.MODEL_DEPLOYMENT, "llm", model(uri=f"pvc://models/{letter}", revisionHistoryLimit=1))
        await rounds(world, operator, 3)
    assert _history(world) == ["pvc://models/a", "pvc://models/d"]


async def test_after_ray_lost_everything_a_revision_that_was_given_up_does_not_serve() -> None:
    """What comes back is what served before it."""
    world, operator, old, application = await begun()
    world.traffic[application] = Traffic(requests=10, errors=10)
    await operator.settle()
    world.applications.clear()
    world.traffic.clear()
    operator.restart()
    await operator.settle()
    assert entry(world) == old
    assert ready(world, LLM) == ("False", "RolloutAborted")


def _history(world: FakeWorld) -> list[str]:
    """Sources of the kept revisions of the model, oldest first."""
    ours = [item for item in world.stored if item.owner_uid == world.resources[LLM].uid]
    return [item.data["source"]["uri"] for item in sorted(ours, key=lambda item: item.number)]
