# SPDX-License-Identifier: Apache-2.0
"""Structural schemas from pydantic types; called by `crd.crd`, which `hack/generate` writes to files.

Kubernetes accepts a subset of JSON Schema: everything inlined, one type per node, no `null`, no
`additionalProperties: false`, patterns in RE2. Whatever has no exact counterpart there is an error, never dropped.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Node = dict[str, Any]

INT_OR_STRING = "x-kubernetes-int-or-string"
FREE_JSON = "x-kubernetes-preserve-unknown-fields"
_DROPPED = {"title", "$defs"}
_KEPT = {
    "description", "type", "format", "enum", "default", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "minItems", "maxItems", "maxProperties", "required", INT_OR_STRING, FREE_JSON, "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-validations",
}  # fmt: skip
_NOT_RE2 = re.compile(r"\(\?(?!:)|\\[1-9]|[*+?}]\+")
_REPETITION = re.compile(r"\{[0-9,]*?([0-9]+)\}")
_MAX_REPETITION = 1000


class SchemaError(ValueError):
    """A type uses something a structural schema can't say; the message has the path."""


def structural(model: type[BaseModel]) -> Node:
    """The structural schema of `model`; raises SchemaError."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), model.__name__)


def _convert(node: Mapping[str, Any], defs: Mapping[str, Node], path: str) -> Node:
    flat = _flatten(dict(node), defs, path)
    result: Node = {}
    for key, value in flat.items():
        if key == "properties":
            result[key] = {name: _convert(child, defs, f"{path}.{name}") for name, child in value.items()}
        elif key == "items":
            result[key] = _convert(value, defs, f"{path}[]")
        elif key == "additionalProperties":
            if value is not False and FREE_JSON not in flat:
                result[key] = _convert(value, defs, f"{path}[*]")
        elif key == "const":
            result["enum"] = [value]
        elif key in _KEPT:
            result[key] = value
        elif key not in _DROPPED:
            raise SchemaError(f"{path}: a structural schema has no {key!r}")
    return _finished(result, path)


def _flatten(node: Node, defs: Mapping[str, Node], path: str) -> Node:
    """`node` without `$ref` and without the null branch of an optional value; what stands outside wins."""
    if "$ref" in node:
        target = defs[node.pop("$ref").removeprefix("#/$defs/")]
        return _flatten({**target, **node}, defs, path)
    if "anyOf" in node:
        branches = [branch for branch in node.pop("anyOf") if branch.get("type") != "null"]
        if len(branches) != 1:
            raise SchemaError(f"{path}: a structural schema has one type, not a choice of {len(branches)}")
        return _flatten({**branches[0], **node}, defs, path)
    return node


def _finished(node: Node, path: str) -> Node:
    if "default" in node:
        _settle_default(node)
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if node.get(INT_OR_STRING):
        node.pop("type", None)
    if node.get("type") == "array":
        node.setdefault("x-kubernetes-list-type", "atomic")
    if "pattern" in node:
        _check_pattern(node["pattern"], path)
    return node


def _settle_default(node: Node) -> None:
    """A default is spelled out, except that unset optional fields stay unset."""
    default = node.pop("default")
    if isinstance(default, dict):
        default = {key: value for key, value in default.items() if value is not None}
        if not default and "required" in node:
            raise SchemaError(f"an empty default for a type that requires {node['required']}")
    if default is not None:
        node["default"] = default


def _check_pattern(pattern: str, path: str) -> None:
    if _NOT_RE2.search(pattern):
        raise SchemaError(f"{path}: {pattern!r} is not an RE2 pattern")
    if any(int(most) > _MAX_REPETITION for most in _REPETITION.findall(pattern)):
        raise SchemaError(f"{path}: {pattern!r} repeats more than {_MAX_REPETITION} times")
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise SchemaError(f"{path}: {pattern!r} is not anchored, it would match anywhere in the value")
