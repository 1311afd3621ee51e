# SPDX-License-Identifier: Apache-2.0
"""The API server's word, without one: what is told where several things are wrong, and what nulls and numbers are."""

from typing import Any

import pytest

from lateen_api import admission, crd

SPEC: dict[str, Any] = {
    "version": "1",
    "messages": [{"role": "user", "content": "{question}"}],
    "variables": [{"name": "question"}],
}


def problems(spec: Any, kind: crd.Kind = crd.PROMPT_TEMPLATE, **more: Any) -> list[tuple[str, str]]:
    """Path and message of everything that is wrong with an object of this spec."""
    content = {"metadata": {"name": "a"}, "spec": spec} | more
    found = admission.Checker(kind).problems(content)
    return [(admission.written(each.path), each.message) for each in found]


def test_everything_wrong_is_told_at_once() -> None:
    """Rules of a sound part too, while another part is broken; those over a broken part wait."""
    spec = SPEC | {
        "messages": [{"role": "boss", "content": "a"}, {"content": "b"}],
        "variables": [{"name": "found", "from": "retrieval"}, {"name": "other", "from": "retrieval"}],
        "suspnd": True,
    }
    found = problems(spec, metadata={"name": "A.b"}, data={})
    assert [path for path, _ in found] == [
        "data",
        "spec.messages[0].role",
        "spec.messages[1]",
        "spec.suspnd",
        "metadata.name",
    ]
    assert "at most one variable" not in str(found)
    assert "at most one variable" in str(problems(spec | {"messages": SPEC["messages"]}))


@pytest.mark.parametrize("spec", [None, "text", [], 5])
def test_a_spec_that_is_none(spec: Any) -> None:
    """It is named; nothing in it is looked for."""
    (found,) = problems(spec)
    assert found == ("spec", "Required value") if spec is None else found[1].startswith("expected map, got")


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("suspend", None, ""),
        ("variables", None, ""),
        ("version", None, "Required value"),
        ("messages", [None], "expected map, got null"),
        ("retention", 5, "expected string, got 5"),
        ("suspend", 1, "expected boolean, got 1"),
        ("revisionHistoryLimit", True, "expected numeric, got true"),
        ("revisionHistoryLimit", 1.5, "must be of type integer"),
        ("revisionHistoryLimit", "5", 'expected numeric, got "5"'),
        ("output", {"format": "json", "schema": {"a": None, "deep": [1.5, {"b": True}]}}, ""),
        ("output", {"format": "json", "schema": []}, "expected map, got []"),
    ],
)
def test_what_json_is_which_type(field: str, value: Any, word: str) -> None:
    """A field that is null counts as left out; nothing is converted; free JSON stays as it is."""
    found = problems(SPEC | {field: value})
    assert [message for _, message in found] == ([] if not word else [found[0][1]])
    assert word in str(found)


def test_a_null_in_the_stored_spec_is_the_default() -> None:
    """At every level, as the operator reads it."""
    stored = admission.Checker(crd.PROMPT_TEMPLATE).stored_spec(
        {
            "spec": SPEC
            | {"variables": [{"name": "a", "type": None, "from": None, "clock": None}], "output": {}}
        }
    )
    assert stored["variables"] == [{"name": "a", "type": "string", "from": "request", "required": True}]
    assert stored["output"] == {"format": "text"}


def test_patterns_are_those_of_re2() -> None:
    """Its white space is that of ASCII, and `$` is the end of the text."""
    index = {
        "sources": [{"name": "a", "git": {"url": "https://example.com/r"}}],
        "embedding": {"modelRef": {"name": "b"}},
    }
    for cron, is_sound in (("0 * * * *", True), ("0\u00a0* * * *", False), ("0\t* *  * *", True)):
        assert (problems(index | {"schedule": {"cron": cron}}, crd.RAG_INDEX) == []) is is_sound
    assert problems(SPEC | {"version": "1\n"}) != []


def test_a_rule_is_told_instead_of_its_pattern() -> None:
    """One sentence with the remedy, not also the regular expression."""
    assert problems(SPEC | {"version": "one two"}) == [
        ("spec.version", "must be letters, digits, '-', '.' or '_', such as 1.2")
    ]


@pytest.mark.parametrize(
    ("metadata", "path", "word"),
    [
        ({}, "metadata.name", "Required value"),
        (None, "metadata.name", "Required value"),
        ([], "metadata.name", "Required value"),
        ({"name": 5}, "metadata.name", "expected string, got 5"),
        ({"name": "a.b"}, "metadata.name", "metadata.name must be a DNS label"),
        ({"name": "a", "labels": {"version": 1}}, "metadata.labels.version", "expected string, got 1"),
        ({"name": "a", "annotations": [1]}, "metadata.annotations", "expected map, got [1]"),
    ],
)
def test_metadata_is_checked_too(metadata: Any, path: str, word: str) -> None:
    """The name, and what must be words."""
    ((found, message),) = problems(SPEC, metadata=metadata)
    assert (found, message.startswith(word)) == (path, True)
    assert problems(SPEC, metadata={"name": "a", "labels": {"a": "1", "b": None}, "annotations": None}) == []
