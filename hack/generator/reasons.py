# SPDX-License-Identifier: Apache-2.0
"""docs/reasons.md: what condition types and reasons mean, from the docstrings under the enums' members."""

import ast
import inspect
from enum import StrEnum

from lateen_api.conditions import ConditionType, Reason

_EVENT = "Event: "


def documented(enum: type[StrEnum]) -> dict[str, str]:
    """Each member's value with its docstring; a member without one has the empty string."""
    (node,) = ast.parse(inspect.getsource(enum)).body
    assert isinstance(node, ast.ClassDef)
    texts = dict.fromkeys(enum.__members__, "")
    for statement, following in zip(node.body, node.body[1:], strict=False):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ) if name in texts:
                texts[name] = " ".join(text.split())
    return {enum[name].value: text for name, text in texts.items()}


def page() -> str:
    """The page."""
    reasons = documented(Reason)
    lasting = {name: text for name, text in reasons.items() if not text.startswith(_EVENT)}
    events = {name: text for name, text in reasons.items() if text.startswith(_EVENT)}
    return "\n".join(
        [
            "# Conditions and reasons",
            "",
            "Types and reasons are part of the API: programs may rely on them, and none is renamed lightly.",
            "`kubectl wait --for=condition=Ready` works on every kind.",
            "",
            "## Condition types",
            "",
            *_table("Type", documented(ConditionType)),
            "",
            "## Reasons of conditions",
            "",
            "Events carry them too.",
            "",
            *_table("Reason", lasting),
            "",
            "## Reasons of Events only",
            "",
            *_table("Reason", {name: text.removeprefix(_EVENT) for name, text in events.items()}),
        ]
    )


def _table(head: str, rows: dict[str, str]) -> list[str]:
    return [
        f"| {head} | Meaning |",
        "|---|---|",
        *(f"| `{name}` | {text[:1].upper()}{text[1:]} |" for name, text in rows.items()),
    ]
