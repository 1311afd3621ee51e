# SPDX-License-Identifier: Apache-2.0
"""What the API server would say of an object, without asking it: the schema of its CRD with the defaults, bounds and CEL
rules in it. Called by `lateen validate`. Pure.

The order is the API server's: nulls go and defaults come (`defaulted`), then types, bounds and names of fields, then the
rules. There all rules wait until the whole object is sound; here those of a part are checked as soon as the part is, so
that an author reads more at once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lateen_api import crd
from lateen_api.cel_rules import Rules
from lateen_api.structural import FREE_JSON, INT_OR_STRING, Node

FieldPath: TypeAlias = tuple[str | int, ...]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int, float), "number": (int, float),
    "boolean": (bool,),
}  # fmt: skip
_WORDS = {"object": "map", "array": "list", "integer": "numeric", "number": "numeric"}
_MOST_SHOWN = 40
_ROOT = ("apiVersion", "kind", "metadata", "spec", "status")
_UNKNOWN = "field not declared in schema"
_NAME = ("metadata", "name")


@dataclass(frozen=True)
class Problem:
    """Something for which an object would be refused."""

    path: FieldPath
    """Keys and positions from the object's top, such as `("spec", "messages", 0)`."""

    message: str
    """In the API server's words."""

    blocks: bool = True
    """Whether rules over what holds it can't be checked."""


class Checker:
    """Checks objects of one kind; its rules are compiled once, when they are first needed."""

    def __init__(self, kind: crd.Kind) -> None:
        self._schema = crd.root_schema(kind)
        self._rules = Rules()

    def problems(self, content: Mapping[str, Any]) -> list[Problem]:
        """Everything for which an object of this kind would be refused, its status aside; empty where it is accepted."""
        found = [Problem((name,), _UNKNOWN, blocks=False) for name in content if name not in _ROOT]
        spec = self.stored_spec(content)
        if spec is None:
            found.append(Problem(("spec",), "Required value"))
        else:
            found += self._of(spec, self._schema["properties"]["spec"], ("spec",))
        return [*found, *self._of_metadata(content)]

    def stored_spec(self, content: Mapping[str, Any]) -> Any:
        """The object's spec as the operator reads it, with defaults; None where there is none."""
        return defaulted(content.get("spec"), self._schema["properties"]["spec"])

    def _of_metadata(self, content: Mapping[str, Any]) -> Iterator[Problem]:
        """Of all outside the spec a rule sees only the name."""
        metadata = content.get("metadata")
        known = metadata if isinstance(metadata, Mapping) else {}
        name = known.get("name")
        if not isinstance(name, str):
            yield Problem(_NAME, "Required value" if name is None else f"expected string, got {_shown(name)}")
        else:
            for message in self._rules.broken(self._schema, {"metadata": {"name": name}}):
                yield Problem(_NAME, message, blocks=False)
        for field in ("labels", "annotations"):
            of_field = known.get(field) or {}
            if not isinstance(of_field, Mapping):
                yield Problem(("metadata", field), f"expected map, got {_shown(of_field)}")
                continue
            for key, value in of_field.items():
                if value is not None and not isinstance(value, str):
                    yield Problem(("metadata", field, key), f"expected string, got {_shown(value)}")

    def _of(self, value: Any, node: Node, path: FieldPath) -> list[Problem]:
        mistake = _mistyped(value, node, path)
        if mistake:
            return [Problem(path, mistake)]
        found = [*_bounds(value, node, path)]
        if isinstance(value, dict):
            found += self._of_fields(value, node, path)
        elif isinstance(value, list):
            found += _repeated(value, node, path)
            for number, item in enumerate(value[: node.get("maxItems")]):
                found += self._of(item, node["items"], (*path, number))
        broken = [] if any(one.blocks for one in found) else self._rules.broken(node, value)
        found += [Problem(path, message, blocks=False) for message in broken]
        pattern = node.get("pattern")
        if not broken and pattern and isinstance(value, str) and not self._rules.matches(pattern, value):
            found.append(Problem(path, f"{written(path)} in body should match '{pattern}'", blocks=False))
        return found

    def _of_fields(self, value: Mapping[str, Any], node: Node, path: FieldPath) -> Iterator[Problem]:
        known, other = node.get("properties", {}), node.get("additionalProperties")
        for name in node.get("required", ()):
            if name not in value:
                yield Problem((*path, name), "Required value")
        for name, child in value.items():
            below = known.get(name, other)
            if below is not None:
                yield from self._of(child, below, (*path, name))
            elif not node.get(FREE_JSON):
                yield Problem((*path, name), _UNKNOWN, blocks=False)


def defaulted(value: Any, node: Node) -> Any:
    """A value as it is stored: without fields that are null, with the schema's defaults for what is not there."""
    if isinstance(value, list) and "items" in node:
        return [defaulted(item, node["items"]) for item in value]
    known, other = node.get("properties", {}), node.get("additionalProperties")
    if not isinstance(value, dict) or not (known or other):
        return value
    given = {name: child for name, child in value.items() if child is not None or name not in known}
    given |= {
        name: child["default"] for name, child in known.items() if name not in given and "default" in child
    }
    return {
        name: defaulted(child, known.get(name, other) or {FREE_JSON: True}) for name, child in given.items()
    }


def written(path: Sequence[str | int]) -> str:
    """A path as the API server writes it, such as `spec.messages[0].content`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _mistyped(value: Any, node: Node, path: FieldPath) -> str:
    if node.get(INT_OR_STRING):
        if isinstance(value, int | str) and not isinstance(value, bool):
            return ""
        return f"{written(path)} in body must be of type integer,string, not {_shown(value)}"
    name = node["type"]
    if not isinstance(value, _TYPES[name]) or isinstance(value, bool) != (name == "boolean"):
        return f"expected {_WORDS.get(name, name)}, got {_shown(value)}"
    if name == "integer" and isinstance(value, float):
        return f"{written(path)} in body must be of type integer, not {_shown(value)}"
    return ""


def _bounds(value: Any, node: Node, path: FieldPath) -> Iterator[Problem]:
    where = f"{written(path)} in body should"
    if "enum" in node and value not in node["enum"]:
        allowed = ", ".join(map(json.dumps, node["enum"]))
        yield Problem(path, f"Unsupported value: {_shown(value)}: supported values: {allowed}")
    if isinstance(value, int | float):
        if value < node.get("minimum", value):
            yield Problem(path, f"{where} be greater than or equal to {node['minimum']}", blocks=False)
        if value > node.get("maximum", value):
            yield Problem(path, f"{where} be less than or equal to {node['maximum']}", blocks=False)
        return
    size = len(value)
    if isinstance(value, str):
        if size > node.get("maxLength", size):
            yield Problem(path, f"Too long: may not be more than {node['maxLength']} bytes")
        if size < node.get("minLength", size):
            yield Problem(path, f"{where} be at least {node['minLength']} chars long", blocks=False)
        return
    most = node.get("maxItems" if isinstance(value, list) else "maxProperties", size)
    if size > most:
        yield Problem(path, f"Too many: {size}: must have at most {most} items")
    if isinstance(value, list) and size < node.get("minItems", size):
        yield Problem(path, f"{where} have at least {node['minItems']} items", blocks=False)


def _repeated(value: Sequence[Any], node: Node, path: FieldPath) -> Iterator[Problem]:
    match node.get("x-kubernetes-list-type"):
        case "set":
            named = [_shown(item) for item in value]
        case "map":
            keys = node["x-kubernetes-list-map-keys"]
            items = [item for item in value if isinstance(item, dict) and item.keys() >= set(keys)]
            named = [", ".join(f"{key}={json.dumps(item[key])}" for key in keys) for item in items]
        case _:
            named = []
    for name in sorted({name for name in named if named.count(name) > 1}):
        yield Problem(path, f"duplicate entries for key [{name}]")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
