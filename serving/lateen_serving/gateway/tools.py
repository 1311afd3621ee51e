# SPDX-License-Identifier: Apache-2.0
"""Functions the model may call, as a grammar of its answer. Pure; called by `asking.py`.

Between the model and the gateway a call is

    <tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>

as the Hermes and Qwen families write it; `tool_calls.py` reads it. The grammar sees to it that a call that begins is one
of a known function with arguments of its schema, and that free text never looks like one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from llguidance import LLMatcher

from lateen_serving.engine.protocol import Grammar, Tool
from lateen_serving.errors import InputError
from lateen_serving.gateway import formats
from lateen_serving.gateway.requests.functions import Function, Mode

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
MAX_GRAMMAR_BYTES = 4 * formats.MAX_SCHEMA_BYTES


@dataclass(frozen=True)
class Callable:
    """A function and the checked schema of its arguments, as JSON text."""

    name: str
    description: str
    schema: str

    def tool(self) -> Tool:
        """The function as the model is told of it."""
        parameters = orjson.loads(self.schema)
        parameters.pop("x-guidance")
        return Tool(name=self.name, description=self.description, parameters=parameters)


def callables(functions: Sequence[Function], paths: Sequence[str]) -> list[Callable]:
    """The functions with their schemas checked; raises InputError that names one of `paths`, where they stand."""
    found: dict[str, Callable] = {}
    for function, where in zip(functions, paths, strict=True):
        if function.name in found:
            raise InputError(
                f"The name '{function.name}' is declared twice in 'tools'.", param=f"{where}.name"
            )
        schema = formats.checked(function.parameters, function.strict, f"{where}.parameters")
        found[function.name] = Callable(function.name, function.description or "", schema)
    if sum(len(function.schema) for function in found.values()) > MAX_GRAMMAR_BYTES:
        raise InputError(
            f"The functions' schemas are longer than {MAX_GRAMMAR_BYTES // 1024} KiB together.", param="tools"
        )
    return list(found.values())


def grammar(
    functions: Sequence[Callable], mode: Mode, named: str | None, parallel: bool, document: str | None
) -> Grammar:
    """The grammar of an answer that may hold calls (mode `auto`), or must.

    Args:
        functions: What may be called, not empty.
        mode: `auto`, or `required`; where a function is named it is always required.
        named: The only function that may be called.
        parallel: Whether several calls may follow each other.
        document: JSON Schema of an answer without calls; None: free text, also before the first call.

    """
    chosen = [function for function in functions if named in {None, function.name}]
    calls = f'call ("\\n"? {_quoted(OPEN)} body)*' if parallel else "call"
    if mode == "required" or named is not None:
        start, before = calls, ""
    elif document is not None:
        start, before = f"document | {calls}", f"document: %json {document}\n"
    else:
        # A lazy lexeme ends at the first OPEN, so neither the text before a call nor one without any can hold it.
        start = f"text | {calls}"
        before = "text: TEXT\nTEXT: /(.|\\n)*/\n"
    first = "lead" if before.startswith("text") else _quoted(OPEN)
    lines = [
        "%llguidance {}",
        f"start: {start}",
        before + f"call: {first} body",
        *(["lead[lazy]: TEXT " + _quoted(OPEN)] if first == "lead" else []),
        f"body: SPACE ({' | '.join(f'function_{number}' for number in range(len(chosen)))}) SPACE {_quoted(CLOSE)}",
        "SPACE: /[ \\n]{0,2}/",
        *(_rule(number, function) for number, function in enumerate(chosen)),
    ]
    return Grammar(kind="lark", source="\n".join(lines) + "\n")


def check(source: Grammar) -> None:
    """Raise InputError if the grammar as a whole is more than llguidance takes."""
    problem = formats.refusal(LLMatcher.grammar_from_lark(source["source"]))
    if problem:
        raise InputError(
            f"Invalid value for 'tools': the functions' schemas are too much together: {problem}",
            code="invalid_json_schema",
            param="tools",
        )


def _rule(number: int, function: Callable) -> str:
    head = _quoted(f'{{"name": "{function.name}", "arguments": ')
    return f'function_{number}: {head} %json {function.schema} "}}"'


def _quoted(text: str) -> str:
    """A literal of the grammar; JSON's quoting is the grammar's."""
    return orjson.dumps(text).decode()
