# SPDX-License-Identifier: Apache-2.0
"""The operator's behaviour on a simulated world: convergence, ordering, failures, crashes, drift, steady state."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lateen_api import names
from lateen_api.catalog import Catalog
from lateen_api.index_build import DocumentFailure
from lateen_operator.seams import Key, Kind
from unit.operator_fakes import Crash, FakeOperator, FakeWorld, ready

LLM = Key(Kind.MODEL_DEPLOYMENT, "default", "llm")
EMBEDDER = Key(Kind.MODEL_DEPLOYMENT, "default", "embedder")
PROMPT = Key(Kind.PROMPT_TEMPLATE, "default", "answer")
INDEX = Key(Kind.RAG_INDEX, "default", "handbook")


def model(task: str = "generate", uri: str = "pvc://models/a", **more: Any) -> dict[str, Any]:
    """Spec of a model."""
    return {"task": task, "source": {"uri": uri}, **more}


def prompt(version: str = "1", text: str = "Answer: {question}", **more: Any) -> dict[str, Any]:
    """Spec of a prompt."""
    messages = [{"role": "user", "content": text}]
    return {"version": version, "messages": messages, "variables": [{"name": "question"}], **more}


def index(size: int = 200, text: str = "hello", **more: Any) -> dict[str, Any]:
    """Spec of an index."""
    source = {"name": "notes", "inline": {"documents": [{"name": "a.md", "text": text}]}}
    chunking = {"strategy": "Token", "size": size}
    return {
        "sources": [source],
        "chunking": chunking,
        "embedding": {"modelRef": {"name": "embedder"}},
        **more,
    }


def everything(world: FakeWorld) -> FakeWorld:
    """One resource of each kind, two models."""
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("embed", "pvc://models/e"))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt())
    world.put(Kind.RAG_INDEX, "handbook", index())
    return world


async def settled() -> tuple[FakeWorld, FakeOperator]:
    """A world in which everything is Ready."""
    world = everything(FakeWorld())
    operator = FakeOperator(world)
    await operator.settle()
    return world, operator


def catalog(world: FakeWorld) -> Catalog:
    """The catalog the gateway was last given."""
    config = world.applications[names.GATEWAY_APPLICATION].config
    assert config is not None
    return Catalog.parse(config["deployments"][0]["user_config"]["catalog"])


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
    assert [c["type"] for c in status["conditions"]] == ["Ready", "Reconciling"]


async def test_steady_state_writes_nothing() -> None:
    """Ten resyncs of a settled world cause no write anywhere."""
    world, operator = await settled()
    before = len(world.writes)
    for _ in range(10):
        world.tick(15)
        await operator.once()
    assert world.writes[before:] == []


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
    """A replica that asks for more CPUs than the whole cluster has is refused with numbers."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(resources={"cpu": "64"}))
    world.broken["pvc://models/a"] = "no resources"
    operator = FakeOperator(world)
    await operator.once()
    world.tick()
    await operator.once()
    assert ready(world, LLM) == ("False", "Unschedulable")
    assert "asks for 64, the whole cluster has 8" in world.resources[LLM].status["conditions"][0]["message"]


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
    assert len(world.stored) == 10


async def test_an_index_without_its_embedder_says_so_and_heals() -> None:
    """A missing embedder is ReferenceNotFound; applying it makes the index Ready without touching the index."""
    world = FakeWorld()
    world.put(Kind.RAG_INDEX, "handbook", index())
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, INDEX) == ("False", "ReferenceNotFound")
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("embed"))
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")


async def test_a_generator_can_not_embed() -> None:
    """An index that names a model with task generate is Incompatible."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("generate"))
    world.put(Kind.RAG_INDEX, "handbook", index())
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, INDEX) == ("False", "Incompatible")


async def test_other_chunking_builds_beside_the_live_collection() -> None:
    """Queries stay on the old collection until the new one is complete; then the old one is removed."""
    world, operator = await settled()
    old = catalog(world).indexes[0].collection
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.once()
    assert catalog(world).indexes[0].collection == old
    assert world.resources[INDEX].status["building"] is not None
    await operator.settle()
    world.tick(10)
    await operator.settle()
    new = catalog(world).indexes[0].collection
    assert new != old
    assert world.collections == {new, names.ledger_collection(new)}


async def test_other_documents_sync_into_the_same_collection() -> None:
    """A change of sources starts one job on the live collection and moves nothing."""
    world, operator = await settled()
    before = catalog(world)
    world.put(Kind.RAG_INDEX, "handbook", index(text="other"))
    jobs = len([write for write in world.writes if write.startswith("job ")])
    await operator.settle()
    assert len([write for write in world.writes if write.startswith("job ")]) == jobs + 1
    assert catalog(world) == before


async def test_retrieval_settings_change_without_a_build() -> None:
    """Another limit reaches the catalog at once; no job runs."""
    world, operator = await settled()
    jobs = len([write for write in world.writes if write.startswith("job ")])
    world.put(Kind.RAG_INDEX, "handbook", index(retrieval={"limit": 7}))
    await operator.settle()
    assert catalog(world).indexes[0].retrieval.limit == 7
    assert len([write for write in world.writes if write.startswith("job ")]) == jobs


async def test_a_new_embedder_revision_keeps_answering_with_the_old_one_meanwhile() -> None:
    """Until the index is rebuilt its entry names the old embedder's application, which stays in Ray."""
    world, operator = await settled()
    old = catalog(world).indexes[0]
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("embed", "pvc://models/other"))
    await operator.once()
    world.tick()
    await operator.once()
    assert catalog(world).models[0].application != old.embedder_application
    assert catalog(world).indexes[0] == old
    assert world.applications[old.embedder_application].status == "RUNNING"
    await operator.settle()
    now = catalog(world).indexes[0]
    assert now.embedder_application == catalog(world).models[0].application
    assert old.embedder_application not in world.applications


async def test_documents_that_can_not_be_indexed_are_named_and_the_rest_answers() -> None:
    """A failed document makes the index not Ready, with its name, while the alias serves the others."""
    world = everything(FakeWorld())
    world.failing_documents = (DocumentFailure(document="notes/b.md", reason="NotText", message="binary."),)
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, INDEX) == ("False", "DocumentsFailed")
    assert world.resources[INDEX].status["failures"][0]["document"] == "notes/b.md"
    assert catalog(world).indexes


async def test_an_unreachable_source_never_replaces_a_complete_index() -> None:
    """A rebuilt collection that lacks a source does not go live, is retried, and goes live when it is complete."""
    world, operator = await settled()
    old = catalog(world).indexes[0].collection
    world.failing_documents = (
        DocumentFailure(document="repo", reason="SourceUnavailable", message="no answer."),
    )
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    for _ in range(6):
        await operator.once()
        world.tick()
    assert catalog(world).indexes[0].collection == old
    assert ready(world, INDEX) == ("False", "SourceUnavailable")
    world.failing_documents = ()
    world.tick(600)
    await operator.settle()
    assert catalog(world).indexes[0].collection != old
    assert ready(world, INDEX) == ("True", "Ready")


async def test_failed_builds_are_retried_with_backoff() -> None:
    """A failing job shows its reason, does not run hot, and heals."""
    world = everything(FakeWorld())
    world.failing_jobs = "lateen-failure StoreUnavailable: Weaviate does not answer"
    operator = FakeOperator(world)
    for _ in range(20):
        await operator.once()
        world.tick()
    assert ready(world, INDEX) == ("False", "StoreUnavailable")
    assert len([write for write in world.writes if write.startswith("job ")]) <= 4
    world.failing_jobs = None
    world.tick(400)
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")


async def test_a_missing_configmap_is_named_and_its_content_is_watched() -> None:
    """The index waits for the ConfigMap, and a changed key starts a sync."""
    world = everything(FakeWorld())
    world.put(
        Kind.RAG_INDEX, "handbook", index() | {"sources": [{"name": "n", "configMap": {"name": "notes"}}]}
    )
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, INDEX) == ("False", "ReferenceNotFound")
    world.config_maps["default", "notes"] = {"a.md": b"one"}
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")
    before = world.resources[INDEX].status["fingerprint"]
    world.config_maps["default", "notes"] = {"a.md": b"two"}
    await operator.settle()
    assert world.resources[INDEX].status["fingerprint"] != before


async def test_the_schedule_and_the_annotation_start_a_sync() -> None:
    """A tick of the cron schedule, or a new value of the annotation, starts exactly one job."""
    world = everything(FakeWorld())
    world.put(Kind.RAG_INDEX, "handbook", index(schedule={"cron": "0 * * * *"}))
    operator = FakeOperator(world)
    await operator.settle()

    def jobs() -> int:
        return len([write for write in world.writes if write.startswith("job ")])

    first = jobs()
    world.tick(3600)
    await operator.settle()
    assert jobs() == first + 1
    present = world.resources[INDEX]
    world.resources[INDEX] = replace(present, annotations={names.SYNC_ANNOTATION: "now"})
    await operator.settle()
    assert jobs() == first + 2


async def test_an_application_deleted_in_ray_comes_back() -> None:
    """Drift in Ray is repaired at the next resync and told in an Event."""
    world, operator = await settled()
    gone = catalog(world).models[1].application
    del world.applications[gone]
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


async def test_an_unreadable_spec_is_reported_with_its_field() -> None:
    """A spec that an older CRD let through is InvalidSpec with the path of the field, and nothing else happens."""
    world, operator = await settled()
    before = catalog(world)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(replicas="many"))
    await operator.settle()
    assert ready(world, LLM) == ("False", "InvalidSpec")
    assert "spec.replicas" in world.resources[LLM].status["conditions"][0]["message"]
    assert catalog(world) == before
