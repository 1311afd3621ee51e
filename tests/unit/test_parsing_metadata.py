# SPDX-License-Identifier: Apache-2.0
"""What authors say about their documents, in front matter and sidecar files."""

import json
from typing import Any

import pytest

from lateen_serving.rag.parsing import metadata, reading
from lateen_serving.rag.parsing.parsed import ParseFailure, Raw

TEXT = b"---\ntitle: The Title\nteam: core\nyear: 2024\ndraft: false\nsince: 2024-05-01\ntags: [a, b]\n---\n# H\n\nx"


def test_plain_values_of_front_matter_are_metadata() -> None:
    """Text, numbers, booleans and dates; `title` is the title; lists and the like are left out."""
    parsed = reading.parse(Raw("a.md", TEXT))
    assert parsed.title == "The Title"
    assert parsed.metadata == {"team": "core", "year": 2024, "draft": False, "since": "2024-05-01"}
    assert parsed.text == "# H\n\nx"


@pytest.mark.parametrize(
    "matter",
    [
        "a: [",
        "- a\n- b",
        "a: !!python/object:os.system x",
        "a: &a [*a]",
        "a: " + "[" * 5000,
        "a: .inf",
        "x" * 20_000,
    ],
    ids=["broken", "list", "object", "loop", "deep", "infinite", "long"],
)
def test_front_matter_that_says_nothing_is_left_out(matter: str) -> None:
    """It is written for other tools; whatever it is, it is not part of the text."""
    parsed = reading.parse(Raw("a.md", f"---\n{matter}\n---\ntext".encode()))
    assert (parsed.metadata, parsed.text) == ({}, "text")


def test_a_sidecar_file_adds_to_front_matter_and_wins() -> None:
    """Its keys replace those of the front matter; `title` replaces the title."""
    sidecar = json.dumps({"team": "sales", "score": 0.5, "title": "Other"}).encode()
    parsed = reading.parse(Raw("a.md", TEXT, sidecar))
    assert parsed.title == "Other"
    assert parsed.metadata["team"] == "sales"
    assert parsed.metadata["score"] == 0.5
    assert parsed.metadata["year"] == 2024


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([], "one JSON object"),
        ({"a": [1]}, "'a'"),
        ({"a": None}, "'a'"),
        ({"a": "x" * 513}, "'a'"),
        ({"a b": 1}, "'a b'"),
        ({"a": 2**60}, "'a'"),
        ({f"k{at}": at for at in range(33)}, "32 keys"),
    ],
)
def test_a_mistake_in_a_sidecar_file_is_named(value: Any, named: str) -> None:
    """It is written for us, so that the author hears of it."""
    with pytest.raises(ParseFailure) as failure:
        metadata.sidecar(json.dumps(value).encode())
    assert failure.value.reason == "Malformed"
    assert named in str(failure.value)


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000, b" " * 20_000])
def test_a_sidecar_file_that_is_no_json_is_malformed(data: bytes) -> None:
    """Broken, deep or long."""
    with pytest.raises(ParseFailure) as failure:
        metadata.sidecar(data)
    assert failure.value.reason == "Malformed"
