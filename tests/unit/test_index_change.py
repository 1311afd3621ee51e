# SPDX-License-Identifier: Apache-2.0
"""What a changed RAGIndex does, and how much work it is."""

import copy
from typing import Any

import pytest

from lateen_api import index_change
from lateen_api.index_change import FieldChange, SourceChange, Work
from lateen_api.rag_index import RAGIndexSpec
from lateen_api.status_types import RAGIndexStatus
from lateen_operator.plan import indexes
from lateen_operator.seams import Key, Kind
from unit import operator_specs
from unit.operator_fakes import FakeWorld

DOCUMENT = {"name": "a.md", "text": "x"}
SPEC: dict[str, Any] = {
    "sources": [{"name": "notes", "inline": {"documents": [DOCUMENT]}}, {"name": "sent", "push": {}}],
    "chunking": {"strategy": "Token", "size": 200, "overlap": 40},
    "embedding": {"modelRef": {"name": "minilm"}},
}
LIVE = RAGIndexStatus.model_validate(
    {
        "documents": 100, "chunks": 500, "tokens": 100_000,
        "sources": [{"name": "notes", "documents": 60}, {"name": "sent", "documents": 40}],
        "embedding": {"embedder": "d.minilm", "passages": 500, "tokens": 100_000, "seconds": 50},
    }
)  # fmt: skip


def spec(**more: Any) -> RAGIndexSpec:
    """The spec with other fields."""
    return RAGIndexSpec.model_validate(copy.deepcopy(SPEC) | more)


def between(wanted: RAGIndexSpec, embedder: str = "e1") -> index_change.Change:
    """What `wanted` does to a live index."""
    status = LIVE.model_copy(update={"revision": spec().revision("e1")})
    return index_change.between(spec(), wanted, status, wanted.revision(embedder))


@pytest.mark.parametrize(
    ("more", "action"),
    [
        ({}, "None"),
        ({"retrieval": {"limit": 5}}, "InPlace"),
        ({"suspend": True}, "InPlace"),
        ({"schedule": {"cron": "0 * * * *"}}, "Sync"),
        ({"sync": {"deletePolicy": "Keep"}}, "Sync"),
        ({"sources": SPEC["sources"][:1]}, "Sync"),
        ({"sources": [{"name": "new", "push": {}}, *SPEC["sources"]]}, "Sync"),
        ({"parsing": {"maxDocumentBytes": "1Mi"}}, "Rebuild"),
        ({"pipeline": {"minCharacters": 5}}, "Rebuild"),
        ({"chunking": {"size": 100}}, "Rebuild"),
        ({"store": {"distance": "dot"}}, "Rebuild"),
        ({"embedding": {"modelRef": {"name": "other"}}}, "Rebuild"),
    ],
)
def test_the_plan_is_what_the_operator_does(more: dict[str, Any], action: str) -> None:
    """It builds anew exactly where the operator names another collection, and reads sources where its fingerprint differs."""
    world = FakeWorld()
    world.put(Kind.RAG_INDEX, "handbook", operator_specs.index())
    resource = world.resources[Key(Kind.RAG_INDEX, "default", "handbook")]
    wanted, now = spec(**more), resource.created + 10_000
    assert between(wanted).action == action
    assert (action == "Rebuild") == (wanted.revision("e1") != spec().revision("e1"))
    same = indexes.fingerprint(resource, wanted, {}, now) == indexes.fingerprint(resource, spec(), {}, now)
    assert same == (action != "Sync")


def test_the_causes_are_named() -> None:
    """Each field that builds anew, apart from the others and the sources."""
    sources = [
        {"name": "notes", "inline": {"documents": [DOCUMENT | {"text": "y"}]}},
        {"name": "new", "push": {}},
    ]
    wanted = spec(
        chunking={"strategy": "Token", "size": 100, "overlap": 40}, sources=sources, retrieval={"limit": 9}
    )
    change = between(wanted)
    assert change.causes == [FieldChange("spec.chunking.size", 200, 100)]
    assert change.others == [FieldChange("spec.retrieval.limit", 3, 9)]
    assert change.sources == [
        SourceChange("new", "Added", None), SourceChange("notes", "Changed", 60), SourceChange("sent", "Removed", 40)
    ]  # fmt: skip


def test_new_weights_of_the_embedder_build_anew() -> None:
    """Although nothing of the index's spec changes."""
    change = between(spec(), embedder="e2")
    assert (change.action, change.causes) == ("Rebuild", [])


def test_going_back_to_what_is_live_builds_nothing() -> None:
    """A change that is being built is given up by applying the spec of the live collection again."""
    status = LIVE.model_copy(update={"revision": spec().revision("e1")})
    present = spec(chunking={"size": 64})
    assert index_change.between(present, spec(), status, spec().revision("e1")).action == "InPlace"


def test_without_a_live_collection_one_is_created() -> None:
    """Whether there is no resource yet, or its first build has not ended."""
    assert index_change.between(None, spec(), RAGIndexStatus(), "r").action == "Create"
    assert index_change.between(spec(), spec(), RAGIndexStatus(), "r").action == "Create"


def test_an_unknown_embedder_leaves_the_fields_to_decide() -> None:
    """Without its revision a changed field builds anew, an unchanged spec does not."""
    status = LIVE.model_copy(update={"revision": "r1"})
    assert index_change.between(spec(), spec(), status, None).action == "None"
    assert index_change.between(spec(), spec(store={"distance": "dot"}), status, None).action == "Rebuild"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"store": {"distance": "dot"}}, (100, 500, 100_000, 50)),
        # 84,000 tokens without those that passages share, cut every 60 instead of every 160.
        ({"chunking": {"strategy": "Token", "size": 100, "overlap": 40}}, (100, 1333, 133_320, 67)),
        # A passage is never less than a document.
        ({"chunking": {"strategy": "Token", "size": 8192, "overlap": 0}}, (100, 100, 84_000, 42)),
        ({"store": {"distance": "dot"}, "sources": SPEC["sources"][1:]}, (40, 200, 40_000, 20)),
    ],
    ids=["same cuts", "smaller passages", "larger passages", "a source less"],
)
def test_the_work_of_a_rebuild_is_told_from_the_live_collection(
    more: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    """All that stays is embedded again, at the speed measured last."""
    wanted = spec(**more)
    found = index_change.work(between(wanted), spec(), wanted, LIVE, dimension=384)
    assert (found.documents, found.passages, found.tokens, found.seconds) == expected
    assert found.tokens_per_second == 2000
    assert found.disk_bytes is not None
    assert found.present_disk_bytes is not None
    assert (found.disk_bytes > found.present_disk_bytes) == (expected[2] > 100_000)


def test_what_is_not_known_is_not_guessed() -> None:
    """Before the first synchronization nothing, without a measured speed no time, without a dimension no bytes."""
    wanted = spec(store={"distance": "dot"})
    assert index_change.work(between(wanted), spec(), wanted, RAGIndexStatus()) == Work()
    unmeasured = LIVE.model_copy(update={"embedding": None})
    found = index_change.work(between(wanted), spec(), wanted, unmeasured)
    assert (found.tokens, found.seconds, found.disk_bytes) == (100_000, None, None)
