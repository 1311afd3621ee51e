# SPDX-License-Identifier: Apache-2.0
"""From pydantic types to structural schemas: nothing is lost on the way, or it is an error."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lateen_api import crd
from lateen_api.quantities import Quantity
from lateen_api.schema import SpecType, distinct_items, named_items, rule, rules
from lateen_api.structural import SchemaError, structural


class Inner(SpecType):
    """An inner type."""

    model_config = SpecType.model_config | {"json_schema_extra": rules(rule("true", "never"))}

    size: Annotated[int, Field(ge=1, le=5)] = 3
    """How
    big."""

    note: Annotated[str | None, Field(max_length=9)] = None
    """Why."""


class Outer(SpecType):
    """An outer type."""

    inner: Inner = Inner()
    """The inner one."""

    optional: Inner | None = None
    """Another."""

    names: Annotated[list[str], Field(max_length=2, json_schema_extra=distinct_items())] = Field(default=[])
    """Names."""

    items: Annotated[list[Inner], Field(json_schema_extra=named_items("size"))]
    """Items."""

    plain: list[str]
    """In order."""

    constant: Literal["one"] = "one"
    """Just one."""

    labels: dict[str, int] = Field(default={})
    """By name."""

    cpu: Quantity
    """Cores."""


def test_types_are_inlined_with_defaults_rules_and_descriptions() -> None:
    """References, null branches and titles go; meaning stays."""
    schema = structural(Outer)
    inner = schema["properties"]["inner"]
    assert schema["required"] == ["items", "plain", "cpu"]
    assert inner["default"] == {"size": 3}
    assert inner["description"] == "The inner one."
    assert inner["x-kubernetes-validations"] == [{"rule": "true", "message": "never"}]
    assert inner["properties"]["size"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
        "default": 3,
        "description": "How big.",
    }
    assert inner["properties"]["note"] == {"type": "string", "maxLength": 9, "description": "Why."}
    assert "default" not in schema["properties"]["optional"]
    assert schema["properties"]["optional"]["type"] == "object"


def test_lists_say_how_they_merge() -> None:
    """By name, as a set, or as a whole."""
    properties = structural(Outer)["properties"]
    assert properties["items"]["x-kubernetes-list-map-keys"] == ["size"]
    assert properties["names"]["x-kubernetes-list-type"] == "set"
    assert properties["plain"]["x-kubernetes-list-type"] == "atomic"


def test_special_forms_have_their_counterparts() -> None:
    """Constants, maps and numbers that may be strings."""
    properties = structural(Outer)["properties"]
    assert properties["constant"]["enum"] == ["one"]
    assert properties["labels"]["additionalProperties"] == {"type": "integer"}
    assert properties["cpu"]["x-kubernetes-int-or-string"] is True
    assert "type" not in properties["cpu"]


class Choice(SpecType):
    """Two types in one field."""

    value: int | str


class LookAhead(SpecType):
    """A pattern that only Python's own engine takes."""

    value: Annotated[str, Field(json_schema_extra={"pattern": "^(?=a).*$"})]


class Endless(SpecType):
    """More repetitions than RE2 has."""

    value: Annotated[str, Field(pattern="^a{1,1001}$")]


class Unanchored(SpecType):
    """Half a pattern."""

    value: Annotated[str, Field(pattern="^a")]


class Divided(SpecType):
    """A keyword structural schemas have, but nobody has thought about here."""

    value: Annotated[int, Field(multiple_of=2)]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Choice, "Choice.value: a structural schema has one type, not a choice of 2"),
        (LookAhead, "LookAhead.value: .* is not an RE2 pattern"),
        (Endless, "Endless.value: .* repeats more than 1000 times"),
        (Unanchored, "Unanchored.value: .* is not anchored"),
        (Divided, "Divided.value: a structural schema has no 'multipleOf'"),
    ],
)
def test_what_can_not_be_said_is_an_error(model: type[SpecType], message: str) -> None:
    """Dropped constraints would be promises that nobody keeps."""
    with pytest.raises(SchemaError, match=message):
        structural(model)


def nodes(node: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every schema node below `node` with its path."""
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += nodes(child, f"{path}.{name}")
    if "items" in node:
        found += nodes(node["items"], f"{path}[]")
    return found


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_every_part_of_a_spec_is_bounded_and_described(kind: crd.Kind) -> None:
    """An unbounded string or list could fill etcd, and CEL could not say what a rule costs."""
    for path, node in nodes(structural(kind.spec), kind.name):
        what = "int-or-string" if node.get("x-kubernetes-int-or-string") else node["type"]
        needed = {
            "string": {"maxLength"} if "enum" not in node else set(),
            "int-or-string": {"maxLength"},
            "integer": {"minimum", "maximum"},
            "array": {"maxItems"},
        }.get(what, set())
        assert needed <= node.keys(), path
        assert path.endswith("[]") or node.get("description"), path
