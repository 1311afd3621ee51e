# SPDX-License-Identifier: Apache-2.0
"""Rendering of prompts: what reaches the model, what is refused, and that values stay values."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen_api import rendering
from lateen_api.prompt_template import PostProcessor, PromptTemplateSpec
from lateen_api.rendering import InvalidTemplate, InvalidVariable, Value

quick = settings(deadline=None, max_examples=80)
STEPS: list[PostProcessor] = ["Dedent", "CollapseWhitespace", "Strip"]


def template(
    *contents: str, variables: list[dict[str, Any]] | None = None, **more: Any
) -> PromptTemplateSpec:
    """A prompt of user messages."""
    return PromptTemplateSpec.model_validate(
        {
            "version": "1",
            "messages": [{"role": "user", "content": content} for content in contents],
            "variables": variables or [],
            **more,
        }
    )


def typed(**properties: Any) -> PromptTemplateSpec:
    """A prompt that is one variable `x` of these properties."""
    return template("{x}", variables=[{"name": "x"} | {k.rstrip("_"): v for k, v in properties.items()}])


def test_messages_keep_their_order_and_roles() -> None:
    """Every placeholder is filled wherever it stands."""
    spec = PromptTemplateSpec.model_validate(
        {
            "version": "1",
            "messages": [
                {"role": "system", "content": "Be {tone}."},
                {"role": "user", "content": "{question} {{literally}} {tone}"},
            ],
            "variables": [{"name": "tone", "from": "constant", "value": "kind"}, {"name": "question"}],
        }
    )
    rendering.check(spec)
    messages = rendering.render(spec, {"question": "Why?"})
    assert [(message.role, message.content) for message in messages] == [
        ("system", "Be kind."),
        ("user", "Why? {literally} kind"),
    ]


@quick
@given(st.text(min_size=1))
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    """Braces in what a caller or a document says stay text."""
    spec = template("{x}", variables=[{"name": "x"}])
    assert rendering.render(spec, {"x": value})[0].content == value


@quick
@given(st.text(), st.text())
def test_one_value_can_not_reach_another(question: str, passages: str) -> None:
    """A question that asks for `{context}` does not get it, nor the other way round."""
    spec = template("{q}|{c}", variables=[{"name": "q"}, {"name": "c", "from": "retrieval"}])
    content = rendering.render(spec, {"q": question}, retrieved=passages)[0].content
    assert content == f"{question}|{passages}"


@quick
@given(st.text(min_size=1, max_size=200))
def test_doubled_braces_are_literal(text: str) -> None:
    """Any text can be said in a template."""
    spec = template(text.replace("{", "{{").replace("}", "}}"))
    rendering.check(spec)
    assert rendering.render(spec, {})[0].content == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{x", r"messages\[0\].content:1:1: '\{' is never closed; write \{\{ and \}\}"),
        ("x}", r"messages\[0\].content:1:2: single '\}' without"),
        ("{}", r"messages\[0\].content:1:1: placeholder \{\} must be a plain name"),
        ("{x.__class__}", r"placeholder \{x.__class__\} must be a plain name"),
        ("{x[0]}", r"placeholder \{x\[0\]\} must be a plain name"),
        ("{x!r}", r"placeholder \{x!r\} must be a plain name"),
        ("{x:>9999999}", r"placeholder \{x:>9999999\} must be a plain name"),
        ("{x:{y}}", r"placeholder \{x:\{y\} must be a plain name"),
        ('{"answer": 1}', r'placeholder \{"answer": 1\} must be a plain name'),
    ],
)
def test_a_malformed_placeholder_is_refused(content: str, message: str) -> None:
    """Nothing but names: no attributes, indexes, conversions or formats, which could read or exhaust memory."""
    with pytest.raises(InvalidTemplate, match=message):
        rendering.check(template(content, variables=[{"name": "x"}]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (template("a", "{x}"), r"messages\[1\].content:1:1: \{x\} is not declared in variables"),
        (template("a", variables=[{"name": "x"}]), r"variables\[0\]: 'x' is declared but no message uses it"),
        (template("{x}", variables=[{"name": "x"}] * 2), r"variables\[1\]: 'x' is declared twice"),
        (typed(type="integer", default="many"), r"variables\[0\].default: 'many' is not of type integer"),
        (typed(type="boolean", default="yes"), r"variables\[0\].default: 'yes' is not of type boolean"),
        (typed(type="number", default="NaN"), r"variables\[0\].default: .* must be a finite number"),
        (typed(default="abc", rules=[{"maxLength": 2}]), r"variables\[0\].default: .* maxLength is 2"),
    ],
)
def test_placeholders_and_variables_must_agree(spec: PromptTemplateSpec, message: str) -> None:
    """The operator reports it with the position before any caller meets it."""
    with pytest.raises(InvalidTemplate, match=message):
        rendering.check(spec)


@pytest.mark.parametrize(
    ("properties", "value", "text"),
    [
        ({}, "a", "a"),
        ({"type": "integer"}, 3, "3"),
        ({"type": "integer"}, -3, "-3"),
        ({"type": "number"}, 2, "2"),
        ({"type": "number"}, 2.5, "2.5"),
        ({"type": "boolean"}, True, "true"),
        ({"rules": [{"minLength": 2}, {"maxLength": 2}]}, "ab", "ab"),
        ({"rules": [{"oneOf": ["a", "b"]}]}, "b", "b"),
        ({"type": "number", "rules": [{"minimum": "-1.5"}, {"maximum": "5000"}]}, -1.5, "-1.5"),
        ({"type": "integer", "rules": [{"maximum": "5000"}]}, 5000, "5000"),
    ],
)
def test_a_value_that_obeys_its_rules_is_written_out(
    properties: dict[str, Any], value: Value, text: str
) -> None:
    """Numbers and booleans appear as JSON writes them."""
    assert rendering.render(typed(**properties), {"x": value})[0].content == text


@pytest.mark.parametrize(
    ("properties", "value", "message"),
    [
        ({}, 3, "'x' must be of type string, not int"),
        ({"type": "integer"}, "3", "'x' must be of type integer, not str"),
        ({"type": "integer"}, 2.5, "'x' must be of type integer, not float"),
        ({"type": "integer"}, True, "'x' must be of type integer, not bool"),
        ({"type": "number"}, float("nan"), "'x' must be a finite number"),
        ({"type": "boolean"}, 1, "'x' must be of type boolean, not int"),
        ({"rules": [{"minLength": 3}]}, "ab", "'x' has 2 characters; minLength is 3"),
        ({"rules": [{"maxLength": 3}]}, "abcd", "'x' has 4 characters; maxLength is 3"),
        ({"rules": [{"oneOf": ["a", "b"]}]}, "c", "'x' must be one of: a, b"),
        ({"type": "integer", "rules": [{"minimum": "1"}]}, 0, "'x' is 0; minimum is 1"),
        ({"type": "number", "rules": [{"maximum": "0.5"}]}, 0.51, "'x' is 0.51; maximum is 0.5"),
        ({"from": "retrieval"}, "mine", r"'x' is injected \(retrieval\); leave it out"),
        ({"from": "constant", "value": "v"}, "mine", r"'x' is injected \(constant\); leave it out"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused_by_name(
    properties: dict[str, Any], value: Value, message: str
) -> None:
    """The caller learns the variable and the rule."""
    with pytest.raises(InvalidVariable, match=message) as caught:
        rendering.render(typed(**properties), {"x": value})
    assert caught.value.variable == "x"


def test_an_unknown_variable_is_refused_with_the_known_ones() -> None:
    """Injected variables are not offered."""
    spec = template("{a}{b}", variables=[{"name": "a"}, {"name": "b", "from": "retrieval"}])
    with pytest.raises(InvalidVariable, match=r"unknown variable 'c'; the prompt takes: a$"):
        rendering.render(spec, {"a": "1", "c": "2"})


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"default": "d"}, "[d]"),
        ({"default": "d", "required": False}, "[d]"),
        ({"required": False}, "[]"),
        ({"required": False, "rules": [{"minLength": 3}]}, "[]"),
        ({"type": "number", "default": "2"}, "[2]"),
        ({"type": "boolean", "default": "true"}, "[true]"),
        ({"from": "retrieval"}, "[]"),
        ({"from": "constant", "value": "c"}, "[c]"),
    ],
)
def test_a_value_that_is_not_given_has_a_default(properties: dict[str, Any], text: str) -> None:
    """The author's default, else nothing where the variable is optional."""
    spec = template("[{x}]", variables=[{"name": "x"} | properties])
    assert rendering.render(spec, {})[0].content == text


def test_a_required_value_must_be_given() -> None:
    """Required is the default."""
    with pytest.raises(InvalidVariable, match="variable 'x' is required"):
        rendering.render(typed(), {})


def test_a_message_that_ends_up_empty_is_refused() -> None:
    """Chat templates choke on empty turns; the caller hears about it instead."""
    spec = template("  {x}\n", variables=[{"name": "x", "required": False}], postProcessing=["Strip"])
    with pytest.raises(InvalidVariable, match=r"messages\[0\] is empty once rendered"):
        rendering.render(spec, {})


@pytest.mark.parametrize(("source", "wanted"), [("retrieval", True), ("request", False), ("constant", False)])
def test_only_a_prompt_with_passages_wants_retrieval(source: str, wanted: bool) -> None:
    """The gateway searches only when the prompt uses what it finds."""
    assert rendering.wants_retrieval(typed(from_=source, value="v")) is wanted
