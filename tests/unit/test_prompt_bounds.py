# SPDX-License-Identifier: Apache-2.0
"""What hostile templates and values can cost: they are refused soon, by typed errors, wherever they go."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rendering import InvalidVariable


def spec(content: str, *variables: dict[str, Any], syntax: str = "jinja", **more: Any) -> PromptTemplateSpec:
    """A prompt of one message."""
    messages = [{"role": "user", "content": content}]
    document = {"version": "1", "syntax": syntax, "messages": messages, "variables": list(variables)}
    return PromptTemplateSpec.model_validate(document | more)


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "test", ["w in text|lower", "w|lower in text|lower", "text|upper == w", "w in words"]
)
def test_what_a_loop_reads_in_every_turn_is_paid_for(test: str) -> None:
    """Ten thousand searches in three megabytes are refused soon, a few in a small text are not."""
    prompt = spec(
        "found: {% for w in words %}{% if " + test + " %}x{% endif %}{% endfor %}{% if text %}{% endif %}",
        {"name": "words", "type": "list"},
        {"name": "text"},
    )
    rendering.check(prompt)
    began = time.perf_counter()
    with pytest.raises(InvalidVariable, match="takes too long"):
        rendering.render(prompt, {"words": ["word"] * 10_000, "text": "a" * 3_000_000})
    assert time.perf_counter() - began < 10  # generous: what has no bound fails it on any machine
    rendering.render(prompt, {"words": ["word"] * 500, "text": "a" * 8000})


@pytest.mark.parametrize("syntax", ["format", "jinja"])
def test_all_messages_together_are_bounded(syntax: str) -> None:
    """A long value in many messages is refused, though each message is short enough."""
    written = "{x}" if syntax == "format" else "{{ x }}"
    examples = [{"user": written, "assistant": written}] * 8
    prompt = spec(written, {"name": "x"}, syntax=syntax)
    document = prompt.dump() | {"messages": [{"examples": examples}]}
    prompt = PromptTemplateSpec.model_validate(document)
    with pytest.raises(InvalidVariable, match="more than 4000000 characters"):
        rendering.render(prompt, {"x": "y" * 900_000})


@pytest.mark.parametrize(
    "rules",
    [[], [{"schema": {}}], [{"cel": "value.all(v, v == v)", "message": "m"}]],
    ids=["plain", "schema", "cel"],
)
@pytest.mark.parametrize("levels", [65, 300, 900])
def test_a_deep_value_is_refused(rules: list[dict[str, Any]], levels: int) -> None:
    """By its variable's name, before any library walks through it; also as an author's default."""
    variable = {"name": "x", "type": "list"} | ({"rules": rules} if rules else {})
    with pytest.raises(InvalidVariable, match="nested more than 64 levels"):
        rendering.render(spec("{{ x }}", variable), {"x": nested(levels)})
    default = "[" * levels + "]" * levels
    (found,) = rendering.violations(spec("{{ x }}", variable | {"default": default}))
    assert found.path.startswith("variables[0]")


def test_a_deep_schema_is_no_spec() -> None:
    """It is refused where the spec is read, so that nothing fails on it later."""
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"not": schema}
    with pytest.raises(ValidationError, match="nested more than 64 levels"):
        spec("{{ x }}", {"name": "x", "rules": [{"schema": schema}]})
    with pytest.raises(ValidationError, match="nested more than 64 levels"):
        spec("hello", output={"format": "json", "schema": schema})


@pytest.mark.parametrize(
    ("kind", "default", "rule"),
    [("boolean", "true", {"minLength": 1}), ("string", "x", {"minimum": "1"})],
)
def test_a_rule_of_another_type_is_told(kind: str, default: str, rule: dict[str, Any]) -> None:
    """What the definition's own rules would refuse is a violation here, for those who have no API server."""
    variable = {"name": "x", "type": kind, "default": default, "rules": [rule]}
    (found,) = rendering.violations(spec("{{ x }}", variable))
    assert "are for" in found.message


@pytest.mark.parametrize(
    "content", ["{% for a, b in x %}{{ a }}{{ b }}{% endfor %}", "{{ y|trim(y) }}{% if x %}{% endif %}"]
)
def test_what_could_fail_on_a_value_is_refused_before(content: str) -> None:
    """Unpacking in a loop, and trimming by a value, are no part of the syntax."""
    found = rendering.violations(spec(content, {"name": "x", "type": "list"}, {"name": "y", "default": ""}))
    assert "Forbidden" in {violation.reason for violation in found}


def test_a_loop_may_go_through_what_the_template_lists() -> None:
    """A tuple written in the template is a list too."""
    prompt = spec(
        "{% for a in (1, 2) %}{{ a }}{% endfor %}{% if x in ('p', 'q') %}!{% endif %}", {"name": "x"}
    )
    assert rendering.render(prompt, {"x": "q"})[0].content == "12!"
