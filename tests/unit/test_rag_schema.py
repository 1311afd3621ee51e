# SPDX-License-Identifier: Apache-2.0
"""What of a passage is written to Weaviate."""

import json
from typing import Any

import pytest

from lateen_serving.rag import schema
from lateen_serving.rag.attributes import Comparison, Value, terms
from lateen_serving.rag.protocol import Chunk


def written(**more: Any) -> dict[str, Any]:
    """The properties of a chunk."""
    facts: dict[str, Any] = {
        "id": "5bf3b0a5-6a3e-5c0b-9a9e-0c6f0f1d7a11", "document_id": "s/a.md", "source": "s", "path": "a.md", "title": "A",
        "heading": "A > B", "position": 7, "text": "t", "content_hash": "h", "uri": "u", "embedded": "t", "tokens": 3,
    }  # fmt: skip
    found: dict[str, Any] = schema.chunk_row(Chunk(**facts | more), [1.0]).properties
    return found


def test_what_is_not_known_is_not_written() -> None:
    """No page, no offsets, no time."""
    assert written().keys().isdisjoint({"page", "start", "end", "updated_at"})
    assert written()["metadata"] == "{}"


def test_everything_known_is_written() -> None:
    """The document's own attributes as JSON and as tags, its place, its offsets from the very beginning on."""
    own: dict[str, Value] = {"team": "it", "year": 2024, "final": True}
    found = written(page=2, start=0, end=9, language="en", metadata=own, updated_at="2023-11-14T22:13:20Z")
    assert (found["page"], found["start"], found["end"]) == (2, 0, 9)
    assert json.loads(found["metadata"]) == own
    assert found["place"] == schema.place("s/a.md", 7)
    for key, value in {
        **own,
        "page": 2,
        "language": "en",
        "filename": "a.md",
        "updated_at": 1_700_000_000,
    }.items():
        assert set(terms(Comparison(key, "eq", (value,))).tags) <= set(found["tags"]), key


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000),
        ("2023-11-14", 1_699_920_000),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_seconds(time: str, expected: int | None) -> None:
    """UTC where no zone is named; what is no time is none."""
    assert written(updated_at=time).get("updated_at") == expected


def test_a_document_s_own_attribute_can_not_pose_as_ours() -> None:
    """Where names collide, what the index knows itself wins."""
    found = written(metadata={"source": "other"})
    assert not set(terms(Comparison("source", "eq", ("other",))).tags) & set(found["tags"])
