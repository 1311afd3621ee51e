# SPDX-License-Identifier: Apache-2.0
"""What an answer must look like, as a grammar that the engine's decoding keeps to. Pure; called by `asking.py`.

Schemas come from callers: their size and depth are bounded, and llguidance compiles each one here, so that what it can't
enforce is an error that names the field and never a failing replica.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from llguidance import LLMatcher

from lateen_serving.engine.protocol import Grammar
from lateen_serving.errors import InputError
from lateen_serving.gateway.requests.formats import (
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    ResponseJsonSchemaFormat,
    TextFormat,
)

Format = TextFormat | JsonObjectFormat | JsonSchemaFormat | ResponseJsonSchemaFormat

MAX_SCHEMA_BYTES = 65536
MAX_SCHEMA_DEPTH = 64
_WHITESPACE = r"[ \n\t]{1,64}"
"""Between two words of a document: enough for an indented one, and too little for a model that is stuck in spaces."""


def schema(answer_format: Format) -> str | None:
    """The JSON Schema, as JSON text, of a document; None for free text.

    Raises InputError that names the field, whose path begins with `response_format` or `text.format`.
    """
    match answer_format:
        case TextFormat():
            return None
        case JsonObjectFormat():
            return enforced({"type": "object"}, strict=True)
        case JsonSchemaFormat():
            return _checked(answer_format.json_schema, "response_format.json_schema.schema")
        case ResponseJsonSchemaFormat():
            return _checked(answer_format, "text.format.schema")


def grammar(answer_format: Format) -> Grammar | None:
    """The grammar of a document; None for free text. Raises InputError, as `schema` does."""
    if isinstance(answer_format, JsonObjectFormat):
        return Grammar(kind="json_object", source="")
    source = schema(answer_format)
    return Grammar(kind="json_schema", source=source) if source is not None else None


def _checked(described: JsonSchema, param: str) -> str:
    return checked(described.json_schema, described.strict, param)


def checked(document: Mapping[str, Any], strict: bool, param: str) -> str:
    """The JSON text of a caller's schema of an object, once llguidance can enforce it; raises InputError."""
    if document.get("type") != "object":
        raise _invalid(param, "its root must have the type 'object'.")
    if _is_deep(document, MAX_SCHEMA_DEPTH):
        raise _invalid(param, f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels.")
    source = enforced(document, strict)
    if len(source.encode()) > MAX_SCHEMA_BYTES:
        raise _invalid(param, f"it is longer than {MAX_SCHEMA_BYTES // 1024} KiB.")
    problem = refusal(LLMatcher.grammar_from_json_schema(source))
    if problem:
        raise _invalid(param, problem)
    return source


def refusal(grammar_text: str) -> str:
    """Why llguidance doesn't take a grammar; empty if it does. Its warnings say what is only a hint, and refuse nothing."""
    is_refused, messages = LLMatcher.validate_grammar_with_warnings(grammar_text)
    return messages[0][:500] if is_refused else ""


def _invalid(param: str, problem: str) -> InputError:
    return InputError(f"Invalid schema for '{param}': {problem}", code="invalid_json_schema", param=param)


def enforced(document: Mapping[str, Any], strict: bool) -> str:
    """A schema as llguidance is given it. Its own options (`x-guidance`) are ours, never the caller's."""
    options = {"whitespace_pattern": _WHITESPACE, "lenient": not strict}
    return orjson.dumps({**document, "x-guidance": options}).decode()


def _is_deep(value: object, levels: int) -> bool:
    if not isinstance(value, Mapping | list):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_is_deep(item, levels - 1) for item in inner)
