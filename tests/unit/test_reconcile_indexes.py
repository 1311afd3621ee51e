# SPDX-License-Identifier: Apache-2.0
"""Indexes on a simulated world: references, builds, live switches, failing sources, schedules."""

from dataclasses import replace

import pytest

from lateen_api import names
from lateen_api.index_build import BuildReport, DocumentFailure, DocumentFailureReason, SourceReport
from lateen_api.status_types import RAGIndexStatus, SourceStatus
from lateen_operator.plan import index_status
from lateen_operator.reconcile.builds import KEPT_TRIES
from lateen_operator.seams import Job, Kind
from lateen_operator.status import timestamp, unix
from unit.operator_fake_store import FakeStore
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import (
    INDEX,
    catalog,
    everything,
    index,
    model,
    settled,
)


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
    """Queries stay on the old collection until the new one is complete; then the old one goes, if no history is wanted."""
    world, operator = await settled()
    old = catalog(world).indexes[0].collection
    world.put(Kind.RAG_INDEX, "handbook", index(size=100, revisionHistoryLimit=0))
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


async def test_a_status_tells_of_one_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a run ends while the operator reads: not of the sync that was asked for with the counts before it."""
    world, operator = await settled()
    collection = catalog(world).indexes[0].collection
    before = world.reports[collection]
    after = before.model_copy(update={"asked": "now", "documents": 9, "chunks": 99})

    async def report(_: FakeStore, name: str) -> BuildReport | None:
        found = world.reports.get(name)
        world.reports[collection] = after
        return found

    monkeypatch.setattr(FakeStore, "report", report)
    await operator.once()
    status = world.resources[INDEX].status
    told = (status["lastHandledSync"], status["documents"], status["chunks"])
    assert told == ("now", after.documents, after.chunks)


async def test_retrieval_settings_change_without_a_build() -> None:
    """Another limit reaches the catalog at once; no job runs."""
    world, operator = await settled()
    jobs = len([write for write in world.writes if write.startswith("job ")])
    world.put(Kind.RAG_INDEX, "handbook", index(retrieval={"limit": 7}))
    await operator.settle()
    assert catalog(world).indexes[0].retrieval.limit == 7
    assert len([write for write in world.writes if write.startswith("job ")]) == jobs


async def test_an_index_without_its_reranker_answers_says_so_and_heals() -> None:
    """The reranker's id reaches the catalog at once; until it exists, with the right task, the index is not Ready."""
    world, operator = await settled()
    world.put(
        Kind.RAG_INDEX, "handbook", index(retrieval={"rerank": {"modelRef": {"name": "ranker"}}}, size=100)
    )
    await operator.settle()
    assert ready(world, INDEX) == ("False", "ReferenceNotFound")
    assert catalog(world).indexes[0].reranker == "ranker"
    world.put(Kind.MODEL_DEPLOYMENT, "ranker", model("generate"))
    await operator.settle()
    assert ready(world, INDEX) == ("False", "Incompatible")
    world.put(Kind.MODEL_DEPLOYMENT, "ranker", model("rerank"))
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.settle()
    assert catalog(world).indexes[0].reranker is None


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
    assert world.resources[INDEX].status["pipeline"]["duplicates"] == 2
    assert catalog(world).indexes


async def test_each_source_is_in_the_status() -> None:
    """With its counts; why it can't be read; and the oldest change that can't be found, from which the lag counts."""
    world = everything(FakeWorld())
    since = timestamp(world.now - 100)
    world.failing_documents = (
        DocumentFailure(document="site", reason="SourceUnauthorized", message="Secret x."),
    )
    world.source_reports = (
        SourceReport(name="notes", documents=5, changed=2),
        SourceReport(name="site", documents=7, failed=1, cursor="abc", pending_since=since),
    )
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, INDEX) == ("False", "SourceUnauthorized")
    status = RAGIndexStatus.model_validate(world.resources[INDEX].status)
    assert status.sources == [
        SourceStatus(name="notes", documents=5, changed=2),
        SourceStatus(
            name="site", documents=7, failed=1, cursor="abc", pending_since=since, reason="SourceUnauthorized",
            message="Secret x.",
        ),
    ]  # fmt: skip
    assert status.oldest_unindexed_change == since
    assert list(index_status.lags([world.resources[INDEX]], unix(since) + 60)) == [(INDEX, 60.0)]


async def test_another_delete_policy_is_a_synchronization() -> None:
    """What is gone leaves at once when it no longer has to be kept."""
    world, operator = await settled()
    jobs = len(world.requests)
    world.put(Kind.RAG_INDEX, "handbook", index(sync={"deletePolicy": "Keep"}))
    await operator.settle()
    assert len(world.requests) == jobs + 1
    assert list(world.requests.values())[-1]["sync"] == {"deletePolicy": "Keep"}


@pytest.mark.parametrize(
    ("reason", "told"), [("SourceUnavailable", "SourceUnavailable"), ("TooLarge", "DocumentsFailed")]
)
async def test_an_unreachable_source_never_replaces_a_complete_index(
    reason: DocumentFailureReason, told: str
) -> None:
    """A rebuilt collection that lacks a source, down or too large by now, does not go live until it is complete."""
    world, operator = await settled()
    old = catalog(world).indexes[0].collection
    world.failing_documents = (DocumentFailure(document="repo", reason=reason, message="no answer."),)
    world.put(Kind.RAG_INDEX, "handbook", index(size=100), annotations={names.SYNC_ANNOTATION: "now"})
    for _ in range(6):
        await operator.once()
        world.tick()
    assert catalog(world).indexes[0].collection == old
    assert ready(world, INDEX) == ("False", told)
    assert (
        world.resources[INDEX].status["lastHandledSync"] == "now"
    )  # who waits for it learns that it has ended
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


async def test_builds_that_fail_for_long_leave_few_records() -> None:
    """Ray keeps each ended job until it is deleted: those of other contents and all but the last tries are."""
    world = everything(FakeWorld())
    world.failing_jobs = "lateen-failure StoreUnavailable: Weaviate does not answer"
    operator = FakeOperator(world)
    for number in range(40):
        if number == 20:
            world.put(Kind.RAG_INDEX, "handbook", index(size=100))
        await operator.once()
        world.tick(400)
    assert len([write for write in world.writes if write.startswith("job ")]) >= 20
    assert len(world.jobs) <= KEPT_TRIES + 1


class Illegible(FakeWorld):
    """A world whose builds write reports that the operator can't read, as those of another version may be."""

    def _ended(self, job: Job) -> Job:
        ended = super()._ended(job)
        self.reports.clear()
        return ended


async def test_a_build_without_a_report_is_not_repeated_at_once() -> None:
    """It may have ended between two looks; if it never has one it is tried ever less often, and the status says so."""
    world = everything(Illegible())
    operator = FakeOperator(world)
    for _ in range(40):
        await operator.once()
        world.tick()
    assert 2 <= len([write for write in world.writes if write.startswith("job ")]) <= 4
    assert ready(world, INDEX) == ("False", "BuildFailed")


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
