# SPDX-License-Identifier: Apache-2.0
"""Answers that must look like something: the grammar holds, and nobody else notices."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_models import Reference, request, save_llama
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.grammar import Constraint, Grammars
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.prompt import own_copy
from lateen_serving.engine.protocol import Grammar, TokenEvent
from lateen_serving.engine.vocabulary import Vocabulary
from lateen_serving.errors import InputError

SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["calm", "wild"]},
        "depth": {"type": "integer", "minimum": 3, "maximum": 99},
    },
    "required": ["mood", "depth"],
    "additionalProperties": False,
}
LARK = 'start: "<tool_call>" %json {"const": 7} "</tool_call>"'


def schema(value: object) -> Grammar:
    """A grammar of JSON."""
    return Grammar(kind="json_schema", source=json.dumps(value))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved model."""
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    """What transformers answers."""
    return Reference(folder)


@pytest.fixture(scope="module")
def grammars(reference: Reference) -> Grammars:
    """A compiler for the tests' tokenizer, for a model whose logits are wider than it."""
    return Grammars(Vocabulary(own_copy(reference.tokenizer), 300, frozenset({257})))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TextGenerator]:
    """The engine the tests share."""
    made = asyncio.run(TextGenerator.create(LoadOptions(folder, dtype="float32")))
    yield made
    asyncio.run(made.aclose())


async def answer(engine: TextGenerator, text: str, **changes: Any) -> tuple[str, TokenEvent]:
    """The whole text and the last event."""
    whole = ""
    async for event in engine.generate(request(text, **changes)):
        whole += event["text"]
    return whole, event


async def test_answers_follow_their_own_grammars_in_one_batch(
    engine: TextGenerator, reference: Reference
) -> None:
    """Schemas and grammars of several requests and a free request share a batch, and each gets its own."""
    free, first, second, third, sampled = await asyncio.gather(
        answer(engine, "hi"),
        answer(engine, "hi", grammar=schema(SCHEMA), max_tokens=120),
        answer(engine, "ok", grammar=Grammar(kind="lark", source=LARK), max_tokens=120),
        answer(
            engine, "x", grammar=schema({"type": "integer", "minimum": 10, "maximum": 12}), max_tokens=120
        ),
        answer(engine, "hi", grammar=schema(SCHEMA), max_tokens=120, temperature=1.5, top_p=0.9),
    )
    assert free[0] == reference.answer("hi")
    for text, last in (first, sampled):
        value = json.loads(text)
        assert value["mood"] in {"calm", "wild"}
        assert 3 <= value["depth"] <= 99
        assert last["finish_reason"] == "stop"
    assert second[0] == "<tool_call>7</tool_call>"
    assert int(third[0]) in {10, 11, 12}


@pytest.mark.parametrize("seed", range(4))
async def test_any_json_object_parses_or_was_cut_by_its_limit(engine: TextGenerator, seed: int) -> None:
    """`json_object` gives a JSON object at any temperature; only max_tokens may end it early, and says so."""
    grammar = Grammar(kind="json_object", source="")
    text, last = await answer(engine, "hi", grammar=grammar, temperature=1.0, seed=seed, max_tokens=130)
    if last["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert last["completion_tokens"] == 130
        assert text.lstrip().startswith("{")


async def test_a_limit_that_ends_a_grammar_is_said(engine: TextGenerator) -> None:
    """An answer cut by max_tokens has finish_reason length; one that is just complete has stop."""
    cut = await answer(engine, "hi", grammar=schema({"const": "abcdef"}), max_tokens=4)
    whole = await answer(engine, "hi", grammar=schema({"const": "abcdef"}), max_tokens=8)
    assert (cut[0], cut[1]["finish_reason"]) == ('"abc', "length")
    assert (whole[0], whole[1]["finish_reason"]) == ('"abcdef"', "stop")


async def test_a_grammar_survives_memory_pressure(folder: Path) -> None:
    """A request that is sent back to waiting goes on in its grammar where it was."""
    engine = await TextGenerator.create(LoadOptions(folder, dtype="float32", cache_bytes=1))
    wanted = "ab" * 40
    got = await asyncio.gather(
        *(answer(engine, text, grammar=schema({"const": wanted}), max_tokens=120) for text in ("hi", "ok"))
    )
    await engine.aclose()
    assert [json.loads(text) for text, _ in got] == [wanted, wanted]


def walk(constraint: Constraint, text: str) -> None:
    """Take a text of one-byte tokens."""
    for letter in text:
        assert not constraint.accept(ord(letter) - ord("!"))


def test_special_tokens_are_allowed_at_the_end_only(grammars: Grammars) -> None:
    """Before the grammar is complete no special token may come, afterwards the end token, and never unused ids."""
    constraint = grammars.compile(schema({"type": "integer"}))
    assert not constraint.allowed(300)[256:].any()
    walk(constraint, "12")
    allowed = constraint.allowed(300)
    assert [token for token in range(256, 300) if allowed[token]] == [257]


def test_compiled_grammars_are_kept_and_not_shared(grammars: Grammars) -> None:
    """The same schema again is a fresh constraint, whatever the first one has taken."""
    first = grammars.compile(schema({"const": 42}))
    walk(first, "4")
    second = grammars.compile(schema({"const": 42}))
    assert second.allowed(258)[ord("4") - ord("!")]
    assert not first.allowed(258)[ord("4") - ord("!")]


BAD = {
    "no type": schema({"type": "strin"}),
    "unknown keyword": schema({"type": "array", "uniqueItems": True}),
    "look-around": schema({"type": "string", "pattern": "(?=a)"}),
    "unsatisfiable": schema({"type": "integer", "minimum": 5, "maximum": 3}),
    "not JSON": Grammar(kind="json_schema", source="{bad"),
    "not an object": Grammar(kind="json_schema", source="[1]"),
    "deep": Grammar(kind="json_schema", source='{"items":' * 3000 + "{}" + "}" * 3000),
    "broken lark": Grammar(kind="lark", source="start: /a+/ b"),
    "long lark": Grammar(kind="lark", source="start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(9000))),
    "too large": schema({"enum": ["x" * 100] * 2000}),
    "references": schema({"$ref": "#/$defs/0", "$defs": {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(600)}}),
    "dangling reference": schema({"$ref": "#/$defs/0"}),
}  # fmt: skip


@pytest.mark.parametrize("grammar", BAD.values(), ids=BAD.keys())
def test_a_bad_grammar_is_refused_with_the_reason(grammars: Grammars, grammar: Grammar) -> None:
    """What can't be compiled is the caller's error, names response_format and is one line."""
    with pytest.raises(InputError, match=r"^response_format .{10}") as caught:
        grammars.compile(grammar)
    assert caught.value.param == "response_format"
    assert "\n" not in caught.value.message


def test_a_model_without_an_end_cannot_be_held_to_a_grammar(reference: Reference) -> None:
    """Nothing could end such an answer, so it is refused."""
    endless = Grammars(Vocabulary(own_copy(reference.tokenizer), 258, frozenset()))
    with pytest.raises(InputError, match="end token"):
        endless.compile(schema({"type": "integer"}))


async def test_a_bad_grammar_leaves_the_others_alone(engine: TextGenerator, reference: Reference) -> None:
    """A refused request in a crowd changes nothing for the rest."""
    results = await asyncio.gather(
        answer(engine, "hi"),
        answer(engine, "ok", grammar=schema({"type": "strin"})),
        answer(engine, "x"),
        return_exceptions=True,
    )
    assert isinstance(results[1], InputError)
    assert [one[0] for one in results if isinstance(one, tuple)] == [
        reference.answer("hi"),
        reference.answer("x"),
    ]
