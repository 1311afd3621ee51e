# SPDX-License-Identifier: Apache-2.0
"""Grammars of calls and of documents, held against the real llguidance, and the reader of calls."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen_serving.engine.protocol import Grammar
from lateen_serving.errors import InputError, ModelError
from lateen_serving.gateway import formats, tools
from lateen_serving.gateway.requests.formats import (
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    TextFormat,
)
from lateen_serving.gateway.requests.functions import Function, Mode
from lateen_serving.gateway.tool_calls import Arguments, CallEnd, CallStart, Reader, Text
from unit.grammar_matching import Matching

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"$ref": "#/$defs/Days"}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"Days": {"type": "integer", "minimum": 0, "maximum": 9}},
}
FUNCTIONS = tools.callables(
    [Function(name="weather", parameters=WEATHER), Function(name="weather_today")], ["one", "two"]
)
MATCHING = Matching()
WRITABLE = st.characters(exclude_categories=("Cs", "Cc"))
"""llguidance lets control characters be written only as JSON's escapes, and others only as themselves."""
TODAY = '<tool_call>{"name": "weather_today", "arguments": {}}</tool_call>'


def grammar(
    mode: Mode = "auto", named: str | None = None, parallel: bool = True, document: str | None = None
) -> Grammar:
    """The grammar of a request with the two functions."""
    source = tools.grammar(FUNCTIONS, mode, named, parallel, document)
    tools.check(source)
    return source


def call(name: str, arguments: object) -> str:
    """A call as models write it."""
    written = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {written}}}\n</tool_call>'


def read(pieces: list[str]) -> tuple[str, list[tuple[str, str]], int]:
    """Content, calls and whole calls of an answer in pieces."""
    reader = Reader()
    text, whole = "", 0
    calls: list[tuple[str, str]] = []
    for delta in [*(delta for piece in pieces for delta in reader.feed(piece)), *reader.close()]:
        match delta:
            case Text(more):
                assert not calls
                text += more
            case CallStart(index, identity, name):
                assert (index, identity[:5]) == (len(calls), "call_")
                calls.append((name, ""))
            case Arguments(index, more):
                calls[index] = (calls[index][0], calls[index][1] + more)
            case CallEnd(index):
                assert index == whole
                whole += 1
    return text, calls, whole


@pytest.mark.parametrize(
    ("rules", "text", "is_allowed"),
    [
        ({}, "", True),
        ({}, "The weather? a < b, <tool> and <tool_cal", True),
        ({}, "I look it up. " + TODAY, True),
        ({}, TODAY + "\n" + call("weather", {"city": "Rome", "days": 3}), True),
        ({}, "x <tool_call>", False),
        ({}, TODAY + " and more", False),
        ({}, call("weather", {"city": "Rome"}), False),
        ({}, call("weather", {"city": "Rome", "days": 12}), False),
        ({}, call("unknown", {}), False),
        ({"parallel": False}, TODAY, True),
        ({"parallel": False}, TODAY + TODAY, False),
        ({"mode": "required"}, TODAY + TODAY, True),
        ({"mode": "required"}, "No. " + TODAY, False),
        ({"mode": "required"}, "", False),
        ({"mode": "required", "named": "weather"}, TODAY, False),
        ({"named": "weather"}, call("weather", {"city": "", "days": 0}), True),
        ({"document": FUNCTIONS[0].schema}, '{"city": "Rome", "days": 1}', True),
        ({"document": FUNCTIONS[0].schema}, TODAY, True),
        ({"document": FUNCTIONS[0].schema}, "Rome", False),
        ({"document": FUNCTIONS[0].schema}, '{"city": "Rome", "days": 1}' + TODAY, False),
    ],
)
def test_what_a_model_may_write(rules: dict[str, Any], text: str, is_allowed: bool) -> None:
    """Calls of known functions with fitting arguments, and free text or a document only where they are allowed."""
    assert MATCHING.allows(grammar(**rules), text) is is_allowed


@given(choices=st.binary(min_size=1, max_size=400), parallel=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_parses(choices: bytes, parallel: bool) -> None:
    """Any walk through the grammar that ends is nothing but whole calls with arguments of the schema."""
    text = MATCHING.written(grammar("required", parallel=parallel), choices)
    if text is None:
        return
    content, calls, whole = read([text])
    assert content == ""
    assert whole == len(calls) >= 1
    assert parallel or whole == 1
    for name, arguments in calls:
        document = json.loads(arguments)
        if name == "weather":
            assert document.keys() == {"city", "days"}
            assert len(document["city"]) <= 6
            assert 0 <= document["days"] <= 9
        else:
            assert (name, document) == ("weather_today", {})


@given(
    calls=st.lists(
        st.one_of(
            st.builds(
                lambda city, days: ("weather", {"city": city, "days": days}),
                st.text(WRITABLE, max_size=6),
                st.integers(0, 9),
            ),
            st.just(("weather_today", {})),
        ),
        min_size=1,
        max_size=3,
    ),
    before=st.text(max_size=20).filter(lambda text: tools.OPEN not in text),
    cuts=st.lists(st.integers(0, 400), max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_every_call_is_allowed_and_read_however_it_arrives(
    calls: list[tuple[str, dict[str, Any]]], before: str, cuts: list[int]
) -> None:
    """Text before and any calls are allowed, and read alike from every cutting of the answer."""
    answer = before + "\n".join(call(name, arguments) for name, arguments in calls)
    assert MATCHING.allows(grammar(), answer)
    bounds = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    content, found, whole = read([answer[a:b] for a, b in itertools.pairwise(bounds)])
    assert content == before
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert whole == len(calls)


@given(words=st.lists(st.text(WRITABLE, min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
@settings(max_examples=100, deadline=None)
def test_a_schema_cant_break_out_of_the_grammar(words: list[str]) -> None:
    """Any text in a schema is a text of the schema: it never ends the grammar's rule or starts a comment."""
    tricky = [*words, '"} // # %json', "\n x: /y/"]
    schema = {
        "type": "object",
        "properties": {"word": {"enum": tricky}},
        "required": ["word"],
        "additionalProperties": False,
    }
    functions = tools.callables([Function(name="say", parameters=schema)], ["one"])
    source = tools.grammar(functions, "required", None, False, None)
    tools.check(source)
    for word in tricky:
        assert MATCHING.allows(source, call("say", {"word": word}))
    assert not MATCHING.allows(source, call("say", {"word": "".join(tricky)}))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_text_that_resembles_a_call_is_content(size: int) -> None:
    """The beginning of a tag at the end of an answer, and tags that only look alike, stay content."""
    text = "a <tool_cal b <tool> < <tool_call"
    assert read([text[start : start + size] for start in range(0, len(text), size)]) == (text, [], 0)


def test_a_cut_call_keeps_what_was_there() -> None:
    """An answer that ends inside a call's arguments has the call with what arrived of them, and no end of it."""
    assert read(['<tool_call>{"name": "weather", "arguments": {"city": "R']) == (
        "",
        [("weather", '{"city": "R')],
        0,
    )
    assert read(['<tool_call>{"na']) == ("", [], 0)


def test_an_unreadable_call_is_an_error() -> None:
    """A call that no grammar allows is the model's failure, not content and not silence."""
    with pytest.raises(ModelError):
        read(["<tool_call>weather()</tool_call>"])


def document_format(schema: dict[str, Any], strict: bool = True) -> JsonSchemaFormat:
    """A response format."""
    described = JsonSchema.model_validate({"name": "x", "schema": schema, "strict": strict})
    return JsonSchemaFormat(type="json_schema", json_schema=described)


def test_documents_are_held_to_their_schema() -> None:
    """A schema allows its documents, indented ones too, but neither others nor endless white space."""
    source = formats.grammar(document_format(WEATHER))
    assert source is not None
    fitting = {"city": "Rome", "days": 3}
    assert MATCHING.allows(source, json.dumps(fitting))
    assert MATCHING.allows(source, json.dumps(fitting, indent=4))
    assert not MATCHING.allows(source, json.dumps({"city": "Rome"}))
    assert not MATCHING.allows(source, '{"city":' + " " * 100 + '"Rome", "days": 3}')


def test_free_text_and_objects() -> None:
    """Free text has no grammar; a JSON object is any object and nothing else."""
    assert formats.grammar(TextFormat(type="text")) is None
    source = formats.grammar(JsonObjectFormat(type="json_object"))
    assert source == Grammar(kind="json_object", source="")
    assert MATCHING.allows(source, '{"a": [1, null]}')
    assert not MATCHING.allows(source, "[1]")


def nested(levels: int) -> dict[str, Any]:
    """A schema of so many levels of objects."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array"}, "must have the type 'object'"),
        ({}, "must have the type 'object'"),
        ({"type": "object", "not": {}}, "not"),
        ({"type": "object", "$ref": "#/nowhere"}, "nowhere"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}, "regex"),
        (nested(40), "nested deeper"),
        (nested(480), "nested deeper"),
        ({"type": "object", "description": "x" * 70_000}, "longer than"),
    ],
)
def test_schemas_that_cant_be_kept_to_are_refused(schema: dict[str, Any], words: str) -> None:
    """A schema that is wrong, too large or beyond what can be enforced is refused, naming the field."""
    with pytest.raises(InputError, match=words) as caught:
        formats.grammar(document_format(schema))
    assert caught.value.param == "response_format.json_schema.schema"
    assert caught.value.code == "invalid_json_schema"


def test_a_schema_that_is_not_strict_is_enforced_as_far_as_possible() -> None:
    """Without `strict` a keyword that can't be enforced is a hint, and the rest is still kept to."""
    source = formats.grammar(document_format(WEATHER | {"not": {}}, strict=False))
    assert source is not None
    assert not MATCHING.allows(source, json.dumps({"city": "Rome"}))


def test_options_of_the_grammar_are_not_the_callers() -> None:
    """A schema's own `x-guidance` would change JSON's separators; it has no effect and the model isn't shown ours."""
    schema = WEATHER | {"x-guidance": {"key_separator": "=", "item_separator": ";"}}
    (function,) = tools.callables([Function(name="f", parameters=schema)], ["one"])
    source = tools.grammar([function], "required", None, False, None)
    assert MATCHING.allows(source, call("f", {"city": "Rome", "days": 3}))
    assert function.tool()["parameters"] == WEATHER


def test_functions_are_declared_once() -> None:
    """Two functions of one name are refused at the second one."""
    twice = [Function(name="f"), Function(name="f")]
    with pytest.raises(InputError) as caught:
        tools.callables(twice, ["tools[0].function", "tools[1].function"])
    assert caught.value.param == "tools[1].function.name"
