# SPDX-License-Identifier: Apache-2.0
"""What one rule says about one value. Regular expressions run in linear time, JSON Schemas stay within themselves."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import jsonschema_rs
from pydantic_core import SchemaError, SchemaValidator, core_schema

from lateen_api.prompt_variables import VariableRule

MAX_SCHEMA = 16384
MAX_REFERENCES = 16
MAX_CEL_ITEMS = 256
_STRING = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_MACRO = re.compile(r"\b(?:all|exists|exists_one)\b")
_CEL_REFUSED = re.compile(r"\b(?:map|filter)\b|\+|\"\"\"|'''|//")


class InvalidRule(ValueError):
    """The rule itself is wrong."""


class CompiledRule:
    """One rule, made ready once for any number of values; raises InvalidRule when it can't be used."""

    def __init__(self, rule: VariableRule) -> None:
        self.rule = rule
        self._regex = _regex(rule.pattern) if rule.pattern is not None else None
        self._schema = schema_validator(rule.schema_) if rule.schema_ is not None else None
        self._cel = _Expression(rule.cel) if rule.cel is not None else None

    def broken(self, value: Any) -> str:
        """What `value` breaks, in words; empty when it obeys."""
        return next(self._broken(value), "")

    def _broken(self, value: Any) -> Iterator[str]:
        yield from _bounds(self.rule, value)
        if self._regex is not None and not self._regex.isinstance_python(value):
            yield f"does not match pattern {self.rule.pattern}"
        if self._schema is not None:
            for error in self._schema.iter_errors(value):
                where = "/".join(map(str, error.instance_path)) or "the top"
                yield f"breaks its schema at {where}: {error.message[:200]}"
        if self._cel is not None and not self._cel.holds(value):
            yield f"breaks the rule {self.rule.cel}"


def _bounds(rule: VariableRule, value: Any) -> Iterator[str]:
    if isinstance(value, str | list | dict):
        yield from _length_bounds(rule, value)
    elif rule.min_length is not None or rule.max_length is not None:
        yield "has no length: minLength and maxLength are for strings and lists"
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_bounds(rule, value)
    elif rule.minimum is not None or rule.maximum is not None:
        yield "is no number: minimum and maximum are for integers and numbers"
    if rule.one_of is not None and value not in rule.one_of:
        yield f"must be one of: {', '.join(rule.one_of)}"


def _length_bounds(rule: VariableRule, value: str | list[Any] | dict[str, Any]) -> Iterator[str]:
    unit = "characters" if isinstance(value, str) else "items"
    if rule.min_length is not None and len(value) < rule.min_length:
        yield f"has {len(value)} {unit}; minLength is {rule.min_length}"
    if rule.max_length is not None and len(value) > rule.max_length:
        yield f"has {len(value)} {unit}; maxLength is {rule.max_length}"


def _number_bounds(rule: VariableRule, value: float) -> Iterator[str]:
    if rule.minimum is not None and Decimal(str(value)) < Decimal(rule.minimum):
        yield f"is {value}; minimum is {rule.minimum}"
    if rule.maximum is not None and Decimal(str(value)) > Decimal(rule.maximum):
        yield f"is {value}; maximum is {rule.maximum}"


def _regex(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InvalidRule(f"pattern can't be used: {reason}") from error


def schema_validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """A JSON Schema ready for use, which stays within itself; raises InvalidRule when it is none."""
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA:
        raise InvalidRule(f"schema has {len(text)} characters; at most {MAX_SCHEMA} are allowed")
    references = list(_references(schema))
    if len(references) > MAX_REFERENCES or not all(str(target).startswith("#") for target in references):
        raise InvalidRule(f"schema may hold at most {MAX_REFERENCES} references, all within it (#/$defs/…)")
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20), offline=True
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise InvalidRule(f"schema can't be used: {str(error).splitlines()[0]}") from error


def _references(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from (node[key] for key in ("$ref", "$dynamicRef", "$recursiveRef") if key in node)
        if "$schema" in node or "$id" in node:
            yield "a schema of another place"
        for child in node.values():
            yield from _references(child)
    if isinstance(node, list):
        for child in node:
            yield from _references(child)


def load_cel() -> None:
    """Load what expressions need, for a process that would otherwise do so while a request waits."""
    import cel  # noqa: F401 - takes most of a second, and only few prompts need it


def _cel(expression: str) -> Any:
    import cel  # as above

    bare = _STRING.sub("''", expression)
    if _CEL_REFUSED.search(bare):
        raise InvalidRule("cel: map, filter, +, triple quotes and comments can't be used")
    if len(_MACRO.findall(bare)) > 1 or (_MACRO.search(bare) and "matches" in bare):
        raise InvalidRule("cel: one of all, exists, exists_one once, without matches; use a schema for more")
    try:
        program = cel.compile(_counting(expression))
    except ValueError as error:
        raise InvalidRule(f"cel can't be used: {str(error).splitlines()[0][:200]}") from error
    return program


def _counting(expression: str) -> str:
    # CEL's size() of a string counts characters; this library's counts bytes.
    parts = re.split(r"""(r?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))""", expression)
    return "".join(
        part if n % 2 else re.sub(r"\bsize(?=\s*\()", "characters", part) for n, part in enumerate(parts)
    )


class _Expression:
    """A CEL expression over one value."""

    def __init__(self, expression: str) -> None:
        self._program = _cel(expression)
        self._has_macro = _MACRO.search(_STRING.sub("''", expression)) is not None

    def holds(self, value: Any) -> bool:
        import cel  # as above

        if self._has_macro and _count(value) > MAX_CEL_ITEMS:
            return False
        context = cel.Context(variables={"value": value}, functions={"characters": _size})
        try:
            return self._program.execute(context) is True
        except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError):
            return False  # an expression that has no result for the value does not hold


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count(child) for child in value.values())
    return 1 + sum(_count(child) for child in value) if isinstance(value, list) else 1
