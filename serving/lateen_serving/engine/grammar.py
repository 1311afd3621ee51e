# SPDX-License-Identifier: Apache-2.0
"""Answers that must look like something: grammars compiled with llguidance, and what they allow token by token.

`Grammars` is made by `generator.py` and compiles in the tokenizing thread; a `Constraint` goes with its request into
the torch thread, where `shaping.py` asks it before each token. Imports no torch.
"""

import json
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits

from lateen_serving.engine.protocol import Grammar
from lateen_serving.engine.vocabulary import Vocabulary
from lateen_serving.errors import InputError, ModelError

_LONGEST_SOURCE = 128 * 1024
"""Characters of a schema or grammar; its compilation takes well below a second."""

_MOST_REFERENCES = 500
"""Of a schema (`$ref`) or grammar (lines). The compiler recurses along chains of them, and thousands overflow the
process's stack."""

_COMPILED = 32
"""Compiled grammars that are kept, because the same ones come again and again."""

_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,32}"
"""Between JSON tokens: bounded, because small models otherwise like to continue with spaces for ever."""

_LIMITS = LLParserLimits(max_lexer_states=10_000, max_grammar_size=100_000, verbose_errors=False)
"""llguidance's bounds, tightened where they are about memory: a state takes up to 2 kB for each running request. Its
own bounds on the work of a step (about 20 ms) are left."""


class Constraint:
    """What one answer may still be."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self, size: int) -> npt.NDArray[np.bool_]:
        """Which of the first `size` tokens may come next; raises ModelError when the grammar is too complex here."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise ModelError(
                f"the answer can't be held to its response_format: {_one_line(self._matcher.get_error())}"
            )
        return np.unpackbits(bits, count=size, bitorder="little").view(np.bool_)

    def accept(self, token: int) -> bool:
        """Take the token that was chosen; whether the answer is complete and can't go on."""
        if not self._matcher.consume_token(token):
            raise ModelError(
                f"the answer can't be held to its response_format: {_one_line(self._matcher.get_error())}"
            )
        return bool(self._matcher.is_stopped())


class Grammars:
    """Compiles grammars for one model. Not safe to use from two threads at once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()

    def compile(self, grammar: Grammar) -> Constraint:
        """What answers of `grammar` may be; raises InputError, with the compiler's reason, for one that is unusable."""
        if not self._vocabulary.ends:
            raise _refused("needs a model with an end token, and this one has none")
        key = (grammar["kind"], grammar["source"])
        matcher = self._compiled.get(key)
        if matcher is None:
            matcher = self._compile(grammar)
            self._compiled[key] = matcher
        self._compiled.move_to_end(key)
        while len(self._compiled) > _COMPILED:
            self._compiled.popitem(last=False)
        return Constraint(matcher.deep_copy())

    def _compile(self, grammar: Grammar) -> LLMatcher:
        matcher = LLMatcher(self._vocabulary.guide, _source(grammar), log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise _refused(f"is not usable: {_one_line(matcher.get_error())}")
        return matcher


def _source(grammar: Grammar) -> str:
    """The grammar in llguidance's own form."""
    source = grammar["source"]
    if len(source) > _LONGEST_SOURCE:
        raise _refused(f"has {len(source)} characters; at most {_LONGEST_SOURCE} are compiled")
    if grammar["kind"] == "lark":
        if source.count("\n") + source.count("$ref") > _MOST_REFERENCES:
            raise _refused(f"has more than {_MOST_REFERENCES} lines and $ref; make it smaller")
        return str(LLMatcher.grammar_from_lark(source))
    schema = {"type": "object"} if grammar["kind"] == "json_object" else _schema(source)
    return str(LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": _WHITESPACE}))


def _schema(source: str) -> dict[str, Any]:
    if source.count("$ref") > _MOST_REFERENCES:
        raise _refused(f"has more than {_MOST_REFERENCES} $ref; make the schema smaller")
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise _refused(f"is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise _refused("must be a JSON Schema object")
    return schema


def _refused(reason: str) -> InputError:
    return InputError(f"response_format {reason}", param="response_format")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]
