# SPDX-License-Identifier: Apache-2.0
"""What a built collection has to prove before queries go to it, on a simulated world."""

import pytest

from lateen_api.index_build import BuildReport, QualityReport, Recall
from lateen_api.rag_index import RAGIndexSpec
from lateen_operator.plan import index_gate
from lateen_operator.seams import Kind
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import INDEX, catalog, everything, index, settled


def message(world: FakeWorld) -> str:
    """That of the Ready condition."""
    conditions = world.resources[INDEX].status["conditions"]
    return str(next(one["message"] for one in conditions if one["type"] == "Ready"))


def jobs(world: FakeWorld) -> int:
    """Builds so far."""
    return len([write for write in world.writes if write.startswith("job ")])


async def test_what_a_build_found_is_in_the_status() -> None:
    """Recall as text, and the counts."""
    world, _ = await settled()
    found = world.resources[INDEX].status["quality"]
    assert found == {"recall": "1.0000", "samples": 9, "k": 10, "objects": 9, "dimension": 8}


async def test_a_collection_whose_searches_miss_too_much_does_not_go_live() -> None:
    """The old one keeps answering, the figures and the remedy are told, nothing is built again and again; a lower
    minimum is enough to let it pass, without a build.
    """
    world, operator = await settled()
    old = catalog(world).indexes[0].collection
    world.recall = 0.62
    world.put(Kind.RAG_INDEX, "handbook", index(size=100, store={"compression": "bq"}))
    for _ in range(8):
        await operator.once()
        world.tick(60)
    assert catalog(world).indexes[0].collection == old
    assert world.aliases[catalog(world).indexes[0].alias] == old
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")
    for part in (
        "0.6200",
        "recall@10",
        "minRecall asks for 0.9",
        "compression: rq or none",
        "keeps answering",
    ):
        assert part in message(world)
    assert jobs(world) == 2
    lower = index(size=100, store={"compression": "bq"}, quality={"minRecall": "0.6"})
    world.put(Kind.RAG_INDEX, "handbook", lower)
    await operator.settle()
    assert catalog(world).indexes[0].collection != old
    assert ready(world, INDEX) == ("True", "Ready")
    assert world.resources[INDEX].status["quality"]["recall"] == "0.6200"
    assert jobs(world) == 2


async def test_a_first_build_that_fails_the_check_is_not_served() -> None:
    """There is nothing to answer with, and it says why."""
    world = everything(FakeWorld())
    world.recall = 0.3
    operator = FakeOperator(world)
    await operator.settle_rounds(8)
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")
    assert not catalog(world).indexes
    assert not world.aliases


async def test_lost_passages_are_repaired_before_anything_goes_live() -> None:
    """Another count than the ledger's keeps the old collection live and is tried again until it is right."""
    world, operator = await settled()
    old = catalog(world).indexes[0].collection
    world.lost_objects = 2
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.settle_rounds(6)
    assert catalog(world).indexes[0].collection == old
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")
    assert "holds 7 passages, its ledger 9" in message(world)
    world.lost_objects = 0
    world.tick(400)
    await operator.settle()
    assert catalog(world).indexes[0].collection != old
    assert ready(world, INDEX) == ("True", "Ready")


async def test_a_collection_that_lacks_passages_is_measured_as_a_whole_again() -> None:
    """The count alone does not see passages without a right vector: those would go live with the next build."""
    world, operator = await settled()
    world.lost_objects = 2
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.settle_rounds(6)
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")
    before = jobs(world)
    world.tick(400)
    await operator.once()
    assert jobs(world) == before + 1
    sent = [one for one in world.requests.values() if one["chunking"]["size"] == 100][-1]
    assert sent.get("measured") is None


async def test_a_synchronization_of_the_live_collection_does_not_measure_again() -> None:
    """What was measured goes with the request and stays in the status; a higher minimum is then told, and it answers."""
    world, operator = await settled()
    world.recall = 0.5
    world.put(Kind.RAG_INDEX, "handbook", index(text="other"))
    await operator.settle()
    sent = list(world.requests.values())[-1]
    assert (sent["live"], sent["measured"]["value"]) == (True, 1.0)
    assert ready(world, INDEX) == ("True", "Ready")
    collection = catalog(world).indexes[0].collection
    poor = Recall(value=0.93, samples=9, asked=100, k=10)
    good = world.reports[collection]
    assert good.quality is not None
    world.reports[collection] = good.model_copy(
        update={"quality": good.quality.model_copy(update={"recall": poor})}
    )
    world.put(Kind.RAG_INDEX, "handbook", index(text="other", quality={"minRecall": "0.95"}))
    await operator.settle_rounds(5)
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")
    assert "answers all the same" in message(world)
    assert catalog(world).indexes[0].collection == collection


async def test_other_samples_are_measured_before_queries_come() -> None:
    """A collection that was refused is looked at again when the spec asks for more samples; nothing is embedded for it."""
    world, operator = await settled()
    world.recall = 0.5
    world.put(Kind.RAG_INDEX, "handbook", index(size=100))
    await operator.settle_rounds(6)
    assert ready(world, INDEX) == ("False", "QualityCheckFailed")
    world.recall = 0.99
    world.put(Kind.RAG_INDEX, "handbook", index(size=100, quality={"samples": 900}))
    world.tick(400)
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")


async def test_a_lost_alias_is_put_back_whatever_the_check_says() -> None:
    """What was live is live."""
    world, operator = await settled()
    entry = catalog(world).indexes[0]
    world.lost_objects = 3
    world.put(Kind.RAG_INDEX, "handbook", index(text="other"))
    await operator.settle_rounds(4)
    del world.aliases[entry.alias]
    await operator.once()
    assert world.aliases == {entry.alias: entry.collection}


@pytest.mark.parametrize(
    ("store", "recall", "words"),
    [
        ({"compression": "pq"}, 0.5, "compression: rq or none or vectorIndex: flat"),
        ({"compression": "rq"}, 0.5, "compression: none or vectorIndex: flat"),
        ({}, 0.5, "set spec.store.vectorIndex: flat"),
        ({"vectorIndex": "flat"}, 0.5, "set a lower minRecall"),
        ({}, 0.9, ""),
    ],
)
def test_the_remedy_fits_the_store(store: dict[str, str], recall: float, words: str) -> None:
    """What is exact already is not advised."""
    spec = RAGIndexSpec.model_validate(index(store=store))
    quality = QualityReport(
        objects=1, dimension=8, expected=8, recall=Recall(value=recall, samples=1, asked=1, k=1)
    )
    build = BuildReport(
        fingerprint="f", started_at="", finished_at="", documents=1, chunks=1, tokens=1, embedded=1, removed=0, failed=0,
        quality=quality,
    )  # fmt: skip
    found = index_gate.unfit(spec, build)
    assert (words in found.message) if found else not words


def test_vectors_of_another_length_are_refused() -> None:
    """With both lengths."""
    spec = RAGIndexSpec.model_validate(index())
    build = BuildReport(
        fingerprint="f", started_at="", finished_at="", documents=1, chunks=1, tokens=1, embedded=1, removed=0, failed=0,
        quality=QualityReport(objects=1, dimension=4, expected=8),
    )  # fmt: skip
    found = index_gate.unfit(spec, build)
    assert found is not None
    assert "4 dimensions, the embedder's 8" in found.message
