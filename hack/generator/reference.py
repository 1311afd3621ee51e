# SPDX-License-Identifier: Apache-2.0
"""docs/reference.md: every field of every kind, from the schemas that the API server gets."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from lateen_api import crd, names
from lateen_api.schema import MAX_NAME_LENGTH
from lateen_api.structural import INT_OR_STRING, Node

_SKIPPED_RULE = "metadata.name"


def page(kinds: Iterable[crd.Kind]) -> str:
    """The page."""
    lines = [
        "# Resource reference",
        "",
        f"All kinds are namespaced and belong to `{names.API_VERSION}`.",
        f"Their names are DNS labels of at most {MAX_NAME_LENGTH} characters.",
        "`kubectl explain modeldeployments.lateen.dev.spec` shows the same on the command line.",
        "Commented examples: [crds/samples](../crds/samples). Reasons of conditions: [reasons.md](reasons.md).",
    ]
    for kind in kinds:
        lines += _kind(kind)
    return "\n".join(lines)


def _kind(kind: crd.Kind) -> Iterator[str]:
    schema = crd.root_schema(kind)
    yield from ("", f"## {kind.name}", "", schema["description"], "")
    yield f"`kubectl get {kind.plural}.{names.GROUP}`, short `{kind.short}`."
    for part in ("spec", "status"):
        node = schema["properties"][part]
        yield from ("", f"### {kind.name} {part}", "")
        yield from ("| Field | Type | Default | Meaning |", "|---|---|---|---|")
        yield from (_row(*field) for field in _fields(node, part))
        rules = [message for message in _rules(node) if not message.startswith(_SKIPPED_RULE)]
        if rules:
            yield from ("", "Refused unless:", "", *(f"- {message}" for message in rules))


def _fields(node: Node, path: str) -> Iterator[tuple[str, Node, bool]]:
    required = node.get("required", [])
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, child, name in required
        yield from _fields(child, here)
        if "properties" in child.get("items", {}):
            yield from _fields(child["items"], f"{here}[]")


def _row(path: str, node: Node, required: bool) -> str:
    default = "required" if required else _default(node)
    cells = (f"`{path}`", _type(node), default, _meaning(node))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _meaning(node: Node) -> str:
    """The description and, for a scalar, what the API server says when a value breaks its rules."""
    messages = [] if "properties" in node else list(_own_messages(node))
    return " ".join([node.get("description", ""), *(f"It {message}." for message in messages)])


def _default(node: Node) -> str:
    """The default as a cell; objects say theirs field by field."""
    if "default" not in node or isinstance(node["default"], dict):
        return ""
    return f"`{json.dumps(node['default'], ensure_ascii=False)}`"


def _type(node: Node) -> str:
    if node.get(INT_OR_STRING):
        return "string or integer"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node["type"] == "array":
        return f"list of {_plural(node['items'])}{_bounds(node, 'minItems', 'maxItems')}"
    if node["type"] == "string":
        bounds = _bounds(node, "minLength", "maxLength")
        return f"{node.get('format', 'string')}{bounds}{' characters' if bounds else ''}"
    return f"{node['type']}{_bounds(node, 'minimum', 'maximum')}"


def _plural(node: Node) -> str:
    return " or ".join(f"`{value}`" for value in node["enum"]) if "enum" in node else f"{node['type']}s"


def _bounds(node: Node, least: str, most: str) -> str:
    match node.get(least), node.get(most):
        case None, None:
            return ""
        case None, high:
            return f", at most {high}"
        case low, None:
            return f", at least {low}"
        case low, high:
            return f", {low} to {high}"


def _own_messages(node: Node) -> Iterator[str]:
    entries: list[dict[str, Any]] = node.get("x-kubernetes-validations", [])
    yield from (entry["message"] for entry in entries)


def _rules(node: Node) -> Iterator[str]:
    """Messages of the rules that concern several fields."""
    if "properties" in node:
        yield from _own_messages(node)
    for child in node.get("properties", {}).values():
        yield from _rules(child)
    if "items" in node:
        yield from _rules(node["items"])
