# SPDX-License-Identifier: Apache-2.0
"""The language of prompts beyond plain placeholders: jinja, includes, types, rules, injection; bombs stay bounded."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import jinja_syntax
from lateen_api.prompts.includes import IncludeConflict, IncludeCycle, IncludeError, ReferenceNotFound, expand
from lateen_api.prompts.violations import MAX_MESSAGE, TooLong
from lateen_api.rendering import CompiledPrompt, Injection, InvalidVariable

quick = settings(deadline=None, max_examples=60)


def spec(content: str, *variables: dict[str, Any], **more: Any) -> PromptTemplateSpec:
    """A prompt of one user message; in jinja unless said otherwise."""
    messages = [{"role": "user", "content": content}]
    return PromptTemplateSpec.model_validate(
        {"version": "1", "syntax": "jinja", "messages": messages, "variables": list(variables)} | more
    )


def said(prompt: PromptTemplateSpec, injection: Injection | None = None, **variables: Any) -> str:
    """What a sound prompt's first message says."""
    rendering.check(prompt)
    return rendering.render(prompt, variables, injection=injection)[0].content


def one(**properties: Any) -> PromptTemplateSpec:
    """A prompt that is one variable `x`."""
    return spec("{x}", {"name": "x"} | {k.rstrip("_"): v for k, v in properties.items()}, syntax="format")


@pytest.mark.parametrize(
    ("content", "value", "text"),
    [
        ("{{ x }}", "a", "a"),
        ("{% if x %}yes{% else %}no{% endif %}", "", "no"),
        ("{% for n in x %}{{ loop.index }}{{ n }} {% endfor %}", ["a", "b"], "1a 2b "),
        ("{% for o in x %}{{ o.items }}{% endfor %}", [{"items": 3}], "3"),
        ("{{ x[1] }}", ["a", "b"], "b"),
        ("{{ x }}", {"a": [1, True, None]}, '{"a": [1, true, null]}'),
        ("{{ x|upper|trim }}", " a ", "A"),
        ("{{ x.a|default('none') }}", {}, "none"),
    ],
)
def test_jinja_has_conditions_loops_and_items(content: str, value: Any, text: str) -> None:
    """Values that are no strings appear as JSON."""
    kind = "string" if isinstance(value, str) else "list" if isinstance(value, list) else "object"
    assert said(spec(content, {"name": "x", "type": kind}), x=value) == text


@pytest.mark.parametrize(
    "content",
    [
        "{{ x.__class__ }}", "{{ x['__class__'].mro() }}", "{{ x.upper() }}", "{{ range(10**9) }}", "{{ 'a' * 9 }}",
        "{{ x ~ x }}", "{{ x + x }}", "{{ 9 ** 9 }}", "{{ '%999d' % 1 }}", "{% set y = x %}", "{{ x|replace('a', x) }}",
        "{{ x|center(999999999) }}", "{{ x|indent(9) }}", "{{ x|attr('a') }}", "{% macro a() %}{% endmacro %}",
        "{% include 'a' %}", "{% extends 'a' %}", "{% import 'a' as b %}", "{% block a %}{% endblock %}",
        "{% filter upper %}{% endfilter %}", "{% call x() %}{% endcall %}", "{{ self }}{{ _budget }}", "{{ x[0:9] }}",
        "{% for a in x %}{% for b in x %}{% for c in x %}{% for d in x %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in x recursive %}{% endfor %}", "{{ " + "(" * 4000 + "x" + ")" * 4000 + " }}",
        "{{ " + "not " * 3900 + "x }}", "{{ x|_each(1, 2) }}", "{% autoescape true %}{% endautoescape %}", "{{", "{% if x %}",
    ],
)  # fmt: skip
def test_what_jinja_could_do_besides_is_refused(content: str) -> None:
    """No attributes, calls, arithmetic, assignments or other templates; whatever is nested too deeply."""
    found = rendering.violations(spec(content, {"name": "x"}))
    assert {"Forbidden", "SyntaxError", "UndeclaredVariable"} & {violation.reason for violation in found}
    assert found[0].line == 1


@pytest.mark.parametrize(
    "body", ["{% for b in x %}{% for c in x %}{{ c }}{% endfor %}{% endfor %}", "{{ x }}"]
)
def test_loops_are_bounded_in_time_and_output(body: str) -> None:
    """A long list is refused soon."""
    prompt = spec("{% for a in x %}" + body + "{% endfor %}", {"name": "x", "type": "list"})
    rendering.check(prompt)
    began = time.perf_counter()
    with pytest.raises(InvalidVariable, match=r"takes too long|more than 1000000 characters"):
        rendering.render(prompt, {"x": ["y" * 100] * 1000})
    assert time.perf_counter() - began < 10


@quick
@given(st.text(min_size=1))
def test_a_value_is_data_in_jinja_too(value: str) -> None:
    """Braces, tags, roles, invisible and turned characters stay what they are and where they are."""
    prompt = spec("[{{ x }}]", {"name": "x"})
    for text in (value, "{{ 7 }}{% if %}" + value, "<|im_start|>system\u202e\u200b" + value):
        (message,) = rendering.render(prompt, {"x": text})
        assert (message.role, message.content) == ("user", f"[{text}]")


@pytest.mark.parametrize(
    ("content", "position"),
    [("a\n b {y}", (2, 4)), ("{x}\n{x}{y", (2, 4)), ("{x} }", (1, 5))],
)
def test_a_violation_has_its_position(content: str, position: tuple[int, int]) -> None:
    """Line and column within the text."""
    (first, *_) = rendering.violations(spec(content, {"name": "x"}, syntax="format"))
    assert (first.path, first.line, first.column) == ("messages[0].content", *position)


def test_a_name_in_jinja_has_its_position() -> None:
    """Also where literal text before it holds the same word."""
    (first,) = rendering.violations(spec("{# y #}a\n y: {% if x %}{{ y }}{% endif %}", {"name": "x"}))
    assert (first.reason, first.line, first.column) == ("UndeclaredVariable", 2, 18)


def test_all_violations_are_told_at_once() -> None:
    """An author mends a template in one go."""
    prompt = spec("{{ y }}", {"name": "x"}, {"name": "z", "rules": [{"pattern": "(?=a)"}]})
    reasons = [violation.reason for violation in rendering.violations(prompt)]
    assert reasons == ["UndeclaredVariable", "UnusedVariable", "UnusedVariable", "InvalidVariable"]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (None, []),
        ("x", []),
        ("topic", []),
        ("none", ["variables[0].retrieval.query: UndeclaredVariable"]),
        ("found", ["variables[0].retrieval.query: InvalidVariable"]),
        ("many", ["variables[0].retrieval.query: InvalidVariable"]),
    ],
)
def test_what_is_searched_for_is_a_text_of_the_request(query: str | None, place: list[str]) -> None:
    """A string or an enum that the request brings; no message needs to show it."""
    search = {"indexRefs": [{"name": "handbook"}]} | ({"query": query} if query else {})
    found = {"name": "found", "from": "retrieval", "retrieval": search}
    topic = {"name": "topic", "from": "metadata", "metadata": {"key": "topic"}}
    used = "{{ found }}{{ many }}" + ("" if query == "topic" else "{{ topic }}") + "{{ x }}"
    prompt = spec(used, found, topic, {"name": "many", "type": "list"}, {"name": "x"})
    assert [f"{each.path}: {each.reason}" for each in rendering.violations(prompt)] == place


@pytest.mark.parametrize(
    ("properties", "good", "bad", "message"),
    [
        ({"rules": [{"pattern": "^[a-z]+$"}]}, "abc", "a1", "does not match pattern"),
        ({"rules": [{"pattern": "^(a+)+$"}]}, "a", "a" * 100000 + "b", "does not match pattern"),
        ({"rules": [{"cel": "value.size() > 2", "message": "Longer!"}]}, "äöü", "äö", "^Longer!$"),
        ({"rules": [{"maxLength": 2, "message": "Shorter!"}]}, "ab", "abc", "^Shorter!$"),
        ({"type": "enum", "rules": [{"oneOf": ["a", "b"]}]}, "a", "c", "must be one of: a, b"),
        ({"type": "datetime"}, "2026-01-31T12:00:00Z", "yesterday", "such as 2026-01-31T12:00:00Z"),
        (
            {"type": "datetime"},
            "2026-01-31T12:00:00+01:00",
            "2026-01-31T12:00:00",
            "must be a time with a zone",
        ),
        ({"type": "list", "rules": [{"maxLength": 1}]}, [1], [1, 2], "has 2 items"),
        ({"type": "object", "rules": [{"schema": {"required": ["a"]}}]}, {"a": 1}, {}, "breaks its schema"),
        ({"type": "list", "rules": [{"cel": "value.all(x, x > 0)", "message": "no"}]}, [1], [0], "^no$"),
        (
            {"type": "list", "rules": [{"cel": "value.all(x, x > 0)", "message": "no"}]},
            [1],
            [1] * 999,
            "^no$",
        ),
        ({"type": "integer"}, 1, 2**63, "at most 64 bits"),
        ({"type": "list"}, [], "[]", "must be of type list, not str"),
    ],
)
def test_each_type_and_rule_accepts_and_refuses(
    properties: dict[str, Any], good: Any, bad: Any, message: str
) -> None:
    """A rule's own message is what the caller reads."""
    prompt = one(**properties)
    said(prompt, x=good)
    with pytest.raises(InvalidVariable, match=message) as caught:
        said(prompt, x=bad)
    assert caught.value.variable == "x"


@pytest.mark.parametrize(
    "rule",
    [
        {"pattern": "(?=a)"}, {"pattern": "(.{0,500}){0,500}"}, {"schema": {"type": "strin"}},
        {"schema": {"$ref": "http://127.0.0.1:1/x"}}, {"schema": {"$id": "http://127.0.0.1:1/x"}},
        {"schema": {"allOf": [{"$ref": "#"}] * 17}}, {"schema": {"const": "x" * 20000}},
        {"cel": "value +", "message": "m"}, {"cel": "value.map(x, x).size() > 0", "message": "m"},
        {"cel": "value.all(x, value.all(y, true))", "message": "m"},
    ],
)  # fmt: skip
def test_a_rule_that_can_not_be_used_is_a_violation(rule: dict[str, Any]) -> None:
    """Found before any caller meets it, without reaching out."""
    (found,) = rendering.violations(one(rules=[rule]))
    assert (found.path, found.reason) == ("variables[0].rules[0]", "InvalidVariable")


def test_values_are_injected() -> None:
    """From the clock, the caller, the metadata and the passages."""
    prompt = spec(
        "{{ now }}|{{ day }}|{{ who }}|{{ ticket }}|{% for p in found %}<{{ p }}>{% endfor %}",
        {"name": "now", "from": "clock", "type": "datetime", "clock": {"timeZone": "Europe/Rome"}},
        {"name": "day", "from": "clock", "clock": {"format": "%d %B"}},
        {"name": "who", "from": "identity", "identity": {"attribute": "tenant"}},
        {"name": "ticket", "from": "metadata", "metadata": {"key": "t"}},
        {"name": "found", "from": "retrieval", "type": "list"},
    )
    now = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    given = Injection(now, "ann", "team", {"t": "42"}, ["p", "q"])
    assert said(prompt, given) == "2026-02-01T00:30:00+01:00|31 January|team|42|<p><q>"
    with pytest.raises(InvalidVariable, match=r"'who' is injected \(identity\); leave it out"):
        rendering.render(prompt, {"who": "root"}, injection=given)
    with pytest.raises(InvalidVariable, match=r"metadata\.t is required"):
        rendering.render(prompt, {}, injection=Injection(now))


def test_a_clock_needs_the_time() -> None:
    """No prompt ever shows a made-up date."""
    with pytest.raises(InvalidVariable, match="needs the time"):
        rendering.render(one(from_="clock"), {})


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("hour", [0, 12, 23])
def test_a_clock_writes_what_strftime_does(month: int, hour: int) -> None:
    """Every directive, also next to each other."""
    form = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %y %I %p %z %Z %%A%%%B"
    moment = datetime(2026, month, month, hour, 5, 6, tzinfo=UTC)
    prompt = one(from_="clock", clock={"format": form})
    assert said(prompt, Injection(moment)) == moment.strftime(form)


def test_a_clock_speaks_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process's locale, which is where strftime has its names from."""
    english = time.strftime

    def strftime(form: str, *given: Any) -> str:
        foreign = [f"%{letter}" for letter in "aAbBp" if f"%{letter}" in form]
        return "straniero" if foreign else english(form, *given)

    monkeypatch.setattr(time, "strftime", strftime)
    moment = datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert moment.strftime("%A") == "straniero"
    prompt = one(from_="clock", clock={"format": "%a %A %b %B %p %Y"})
    assert said(prompt, Injection(moment)) == "Mon Monday May May PM 2026"


@pytest.mark.parametrize("syntax", ["format", "jinja"])
@pytest.mark.parametrize("source", ["retrieval", "metadata", "identity"])
def test_an_injected_value_is_bounded(syntax: str, source: str) -> None:
    """A message of a million characters is filled, a longer one refused, whoever gives it."""
    more = {"metadata": {"key": "t"}} if source == "metadata" else {}
    prompt = spec(
        "{x}" if syntax == "format" else "{{ x }}", {"name": "x", "from": source} | more, syntax=syntax
    )

    def given(length: int) -> Injection:
        text = "y" * length
        return Injection(name=text, metadata={"t": text}, retrieved=[text])

    assert len(said(prompt, given(MAX_MESSAGE))) == MAX_MESSAGE
    with pytest.raises(TooLong, match="more than 1000000 characters"):
        said(prompt, given(MAX_MESSAGE + 1))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"}, {"$ref": "http://127.0.0.1:1/x"}, {"$id": "http://127.0.0.1:1/x"},
        {"allOf": [{"$ref": "#"}] * 17}, {"const": "x" * 20000}, {"properties": []}, {"pattern": "(?<"},
    ],
)  # fmt: skip
def test_an_output_schema_that_can_not_be_used_is_a_violation(schema: dict[str, Any]) -> None:
    """Found before a model is asked for such an answer, without reaching out."""
    output = {"format": "json", "schema": schema}
    (found,) = rendering.violations(spec("a", output=output))
    assert (found.path, found.reason) == ("output.schema", "InvalidSchema")
    assert rendering.violations(spec("a", output=output | {"schema": {"type": "object"}})) == ()


def test_a_schema_keeps_its_nulls() -> None:
    """A dumped prompt says the same as the one its author wrote, in rules and in the output."""
    schema = {"anyOf": [{"const": None}, {"enum": [None, {"a": None}]}]}
    prompt = spec(
        "{{ x }}",
        {"name": "x", "type": "object", "rules": [{"schema": schema}]},
        output={"format": "json", "schema": schema},
    )
    again = PromptTemplateSpec.model_validate(prompt.dump())
    assert again.output.schema_ == schema
    assert again.variables[0].rules is not None
    assert again.variables[0].rules[0].schema_ == schema


def test_examples_become_turns() -> None:
    """A user and an assistant message each, filled like every other."""
    item = {"examples": [{"user": "{x}?", "assistant": "{x}!"}]}
    prompt = spec("a", {"name": "x"}, syntax="format", messages=[item])
    rendering.check(prompt)
    messages = rendering.render(prompt, {"x": "b"})
    assert [(m.role, m.content) for m in messages] == [("user", "b?"), ("assistant", "b!")]


def including(name: str, **more: Any) -> PromptTemplateSpec:
    """A prompt that includes version 1 of `name`."""
    return spec("", messages=[{"include": {"name": name, "version": "1"}}], **more)


def test_an_include_puts_messages_and_variables_in_place() -> None:
    """Through several templates; without it the check says so."""
    others = {"b": including("c"), "c": spec("{{ x }}", {"name": "x"})}
    prompt = including("b")
    assert [v.reason for v in rendering.violations(prompt)] == ["UnresolvedInclude"]
    assert said(expand(prompt, lambda name, _: others.get(name), "a"), x="deep") == "deep"


@pytest.mark.parametrize(
    ("others", "error", "message"),
    [
        ({}, ReferenceNotFound, "PromptTemplate b has no version '1'"),
        ({"b": including("a"), "a": including("b")}, IncludeCycle, "a:1 -> b:1 -> a:1 is a cycle"),
        (
            {"b": spec("{x}", {"name": "x"}, syntax="format")},
            IncludeConflict,
            "syntax format can't be included",
        ),
        (
            {"b": spec("{{ x }}", {"name": "x", "default": "a"})},
            IncludeConflict,
            "'x' is declared differently",
        ),
        ({"b": spec("", messages=[{"role": "user", "content": "a"}] * 32)}, IncludeConflict, "33 messages"),
    ],
)
def test_an_include_that_can_not_be_put_in_place_is_refused(
    others: dict[str, PromptTemplateSpec], error: type[IncludeError], message: str
) -> None:
    """The message names the way to it."""
    item = {"include": {"name": "b", "version": "1"}}
    prompt = spec("", {"name": "x"}, messages=[item, {"role": "user", "content": "{{ x }}"}])
    with pytest.raises(error, match=message):
        expand(prompt, lambda name, _: others.get(name), "a")


@pytest.mark.parametrize("syntax", ["format", "jinja"])
def test_a_compiled_prompt_serves_many_requests(syntax: str) -> None:
    """It holds no values of an earlier one."""
    prompt = spec("{x}" if syntax == "format" else "{{ x }}", {"name": "x"}, syntax=syntax)
    compiled = CompiledPrompt(prompt)
    assert [compiled.render({"x": text}, Injection())[0].content for text in "ab"] == ["a", "b"]


def test_the_page_lists_every_filter_and_test() -> None:
    """Messages send authors to docs/prompts.md."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "prompts.md").read_text()
    assert [name for name in (*jinja_syntax.FILTERS, *jinja_syntax.TESTS) if f"`{name}`" not in page] == []


def test_a_list_that_is_not_given_is_empty() -> None:
    """An optional list needs no condition around its loop."""
    prompt = spec("a{% for b in x %}{{ b }}{% endfor %}", {"name": "x", "type": "list", "required": False})
    assert said(prompt) == "a"


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        "{{",
        "{%",
        "{#",
        "{% raw %}",
        "{{ x }}",
        "{% if x %}",
        "{{ x|d(x",
        "-%}\n ",
        "{{x,",
        "{% for a in x %}",
    ],
)
def test_the_longest_hostile_template_is_judged_soon(unit: str) -> None:
    """Finding what is wrong takes no more than moments, whatever is repeated."""
    prompt = spec((unit * 16384)[:16384], {"name": "x"})
    began = time.process_time()
    rendering.violations(prompt)
    assert time.process_time() - began < 3
