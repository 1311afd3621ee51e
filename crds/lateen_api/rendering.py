# SPDX-License-Identifier: Apache-2.0
"""Prompt rendering: one implementation for the operator (checks), the gateway and the command line.

Pure. Placeholders are found by parsing, never by substitution into text that is parsed again: a value can't open
new placeholders.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from string import Formatter

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompt_variables import Variable, VariableRule
from lateen_api.prompts import post_processing

Value = str | int | float | bool
"""What a caller may give for a variable."""


class InvalidTemplate(ValueError):
    """The template itself is wrong; the message names message and placeholder."""


class InvalidVariable(ValueError):
    """A caller's value is missing, unknown or breaks a rule.

    Attributes:
        variable: Name of the variable.

    """

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable


@dataclass(frozen=True)
class RenderedMessage:
    """One message, ready for a chat template."""

    role: str
    content: str


@dataclass(frozen=True)
class _Part:
    literal: str
    variable: str | None


def _parse(content: str, position: int) -> Iterator[_Part]:
    where = f"messages[{position}]"
    try:
        parts = list(Formatter().parse(content))
    except ValueError as error:
        raise InvalidTemplate(f"{where}: {error}; write {{{{ and }}}} for literal braces") from error
    for literal, field, spec, conversion in parts:
        if field is not None and (spec or conversion or not field.isidentifier()):
            raise InvalidTemplate(
                f"{where}: placeholder {{{field}}} must be a plain name without attributes, indexes or formats;"
                " write {{ and }} for literal braces"
            )
        yield _Part(literal, field)


def placeholders(spec: PromptTemplateSpec) -> dict[str, int]:
    """Names used in the messages, each with the index of the first message that uses it; raises InvalidTemplate."""
    if spec.syntax != "format":
        raise InvalidTemplate("syntax: only format is rendered yet")
    found: dict[str, int] = {}
    for position, message in enumerate(spec.messages):
        if message.content is None:
            raise InvalidTemplate(f"messages[{position}]: only role and content are rendered yet")
        for part in _parse(message.content, position):
            if part.variable is not None:
                found.setdefault(part.variable, position)
    return found


def check(spec: PromptTemplateSpec) -> None:
    """Raise InvalidTemplate unless placeholders and declared variables agree and defaults obey their rules."""
    used = placeholders(spec)
    declared: set[str] = set()
    for position, variable in enumerate(spec.variables):
        if variable.name in declared:
            raise InvalidTemplate(f"variables[{position}]: {variable.name!r} is declared twice")
        declared.add(variable.name)
        if variable.name not in used:
            raise InvalidTemplate(
                f"variables[{position}]: {variable.name!r} is declared but no message uses it"
            )
        _check_own_values(variable, position)
    for name, position in used.items():
        if name not in declared:
            raise InvalidTemplate(f"messages[{position}]: {{{name}}} is not declared in variables")


def _check_own_values(variable: Variable, position: int) -> None:
    if variable.default is None:
        return
    try:
        _checked(variable, _typed_default(variable))
    except InvalidVariable as error:
        raise InvalidTemplate(f"variables[{position}].default: {error}") from error


def render(
    spec: PromptTemplateSpec, variables: Mapping[str, Value], retrieved: str | None = None
) -> list[RenderedMessage]:
    """The messages with every placeholder filled.

    Args:
        spec: A prompt that passed `check`.
        variables: The caller's values by name.
        retrieved: Text for the variable that is `from: retrieval`; None counts as no passages.

    Raises:
        InvalidVariable: A value is missing, unknown, injected, of another type, or breaks a rule.

    """
    values = _values(spec, variables, retrieved)
    texts = [
        "".join(
            part.literal + (values[part.variable] if part.variable is not None else "")
            for part in _parse(message.content or "", position)
        )
        for position, message in enumerate(spec.messages)
    ]
    rendered = []
    contents = post_processing.apply(texts, spec.post_processing)
    for position, (message, content) in enumerate(zip(spec.messages, contents, strict=True)):
        if content is None:
            continue
        if not content:
            raise InvalidVariable("", f"messages[{position}] is empty once rendered")
        rendered.append(RenderedMessage(message.role or "user", content))
    return rendered


def wants_retrieval(spec: PromptTemplateSpec) -> bool:
    """Whether a variable of the prompt is filled with retrieved passages."""
    return any(variable.from_ == "retrieval" for variable in spec.variables)


def _values(spec: PromptTemplateSpec, given: Mapping[str, Value], retrieved: str | None) -> dict[str, str]:
    declared = {variable.name: variable for variable in spec.variables}
    for name in given:
        if name not in declared:
            known = ", ".join(sorted(v.name for v in spec.variables if v.from_ == "request")) or "none"
            raise InvalidVariable(name, f"unknown variable {name!r}; the prompt takes: {known}")
        if declared[name].from_ != "request":
            raise InvalidVariable(
                name, f"variable {name!r} is injected ({declared[name].from_}); leave it out"
            )
    return {name: _value(variable, given, retrieved) for name, variable in declared.items()}


def _value(variable: Variable, given: Mapping[str, Value], retrieved: str | None) -> str:
    match variable.from_:
        case "constant":
            return variable.value or ""
        case "retrieval":
            return retrieved or ""
        case "request":
            return _request_value(variable, given)
        case other:
            raise InvalidVariable(
                variable.name, f"variable {variable.name!r}: from: {other} is not filled yet"
            )


def _request_value(variable: Variable, given: Mapping[str, Value]) -> str:
    if variable.name in given:
        return _checked(variable, given[variable.name])
    if variable.default is not None:
        return _checked(variable, _typed_default(variable))
    if variable.required:
        raise InvalidVariable(variable.name, f"variable {variable.name!r} is required")
    return ""


def _typed_default(variable: Variable) -> Value:
    text = variable.default or ""
    try:
        match variable.type:
            case "integer":
                return int(text)
            case "number":
                return float(text) if not text.lstrip("-").isdecimal() else int(text)
            case "boolean":
                return {"true": True, "false": False}[text]
            case _:
                return text
    except (ValueError, KeyError) as error:
        raise InvalidVariable(variable.name, f"{text!r} is not of type {variable.type}") from error


def _checked(variable: Variable, value: Value) -> str:
    text = _text(variable, value)
    for rule in variable.rules or ():
        _check_rule(variable.name, text, rule)
    return text


def _check_rule(name: str, text: str, rules: VariableRule) -> None:
    if rules.min_length is not None and len(text) < rules.min_length:
        raise InvalidVariable(
            name, f"variable {name!r} has {len(text)} characters; minLength is {rules.min_length}"
        )
    if rules.max_length is not None and len(text) > rules.max_length:
        raise InvalidVariable(
            name, f"variable {name!r} has {len(text)} characters; maxLength is {rules.max_length}"
        )
    if rules.one_of is not None and text not in rules.one_of:
        raise InvalidVariable(name, f"variable {name!r} must be one of: {', '.join(rules.one_of)}")
    if rules.minimum is not None and _decimal(name, text) < Decimal(rules.minimum):
        raise InvalidVariable(name, f"variable {name!r} is {text}; minimum is {rules.minimum}")
    if rules.maximum is not None and _decimal(name, text) > Decimal(rules.maximum):
        raise InvalidVariable(name, f"variable {name!r} is {text}; maximum is {rules.maximum}")


def _text(variable: Variable, value: Value) -> str:
    accepted: dict[str, tuple[type, ...]] = {
        "string": (str,), "enum": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    }  # fmt: skip
    is_bool_for_number = isinstance(value, bool) and variable.type != "boolean"
    if is_bool_for_number or not isinstance(value, accepted.get(variable.type, ())):
        kind = type(value).__name__
        raise InvalidVariable(
            variable.name, f"variable {variable.name!r} must be of type {variable.type}, not {kind}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidVariable(variable.name, f"variable {variable.name!r} must be a finite number")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _decimal(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise InvalidVariable(name, f"variable {name!r}: {text!r} is not a number") from error
    if not number.is_finite():
        raise InvalidVariable(name, f"variable {name!r} must be a finite number")
    return number
