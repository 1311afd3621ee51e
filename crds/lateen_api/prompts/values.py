# SPDX-License-Identifier: Apache-2.0
"""The value of every variable: what the caller gives, checked, and what is injected. No clock: the time is given."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompt_variables import Clock, Variable
from lateen_api.prompts import clocks
from lateen_api.prompts.value_rules import CompiledRule
from lateen_api.prompts.violations import InvalidVariable
from lateen_api.schema import MAX_NESTING, is_shallow

Rules = tuple[CompiledRule, ...]
_LARGEST = 2**63
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "enum": (str,), "datetime": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "list": (list,), "object": (dict,),
}  # fmt: skip


@dataclass(frozen=True)
class Injection:
    """What reaches a prompt from elsewhere than the caller's variables.

    Attributes:
        now: Time of the request, with a zone; without it a prompt with a clock is refused.
        name: Name of the caller.
        tenant: Tenant of the caller.
        metadata: The request's metadata.
        retrieved: Passages found: one text, or one for each.

    """

    now: datetime | None = None
    name: str = ""
    tenant: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    retrieved: str | Sequence[str] = ""


class Resolver:
    """Finds and checks the values of one prompt; its rules are compiled once. Raises InvalidRule."""

    def __init__(self, spec: PromptTemplateSpec) -> None:
        self._variables = {variable.name: (variable, compiled_rules(variable)) for variable in spec.variables}

    def resolve(self, given: Mapping[str, Any], injection: Injection) -> dict[str, Any]:
        """Each variable's checked value; raises InvalidVariable."""
        for refusal in self._strangers(given):
            raise refusal
        return {
            name: _value(variable, rules, given, injection)
            for name, (variable, rules) in self._variables.items()
        }

    def refusals(self, given: Mapping[str, Any], injection: Injection) -> list[InvalidVariable]:
        """Everything for which `resolve` refuses these values, not only the first; empty where it does not."""
        found = list(self._strangers(given))
        for variable, rules in self._variables.values():
            try:
                _value(variable, rules, given, injection)
            except InvalidVariable as error:
                found.append(error)
        return found

    def _strangers(self, given: Mapping[str, Any]) -> Iterator[InvalidVariable]:
        declared = {name: variable.from_ for name, (variable, _) in self._variables.items()}
        known = ", ".join(sorted(name for name, source in declared.items() if source == "request")) or "none"
        for name in given:
            if name not in declared:
                yield InvalidVariable(name, f"unknown variable {name!r}; the prompt takes: {known}")
            elif declared[name] != "request":
                yield InvalidVariable(name, f"variable {name!r} is injected ({declared[name]}); leave it out")


def compiled_rules(variable: Variable) -> Rules:
    """The rules of a variable in their order; raises InvalidRule."""
    return tuple(CompiledRule(rule) for rule in variable.rules or ())


def written(value: Any) -> str:
    """A value as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def size(value: Any) -> int:
    """Characters of all texts in a value, and one for each of its parts."""
    total, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        total += len(part) if isinstance(part, str) else 1
        if isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return total


def typed(variable: Variable, text: str) -> Any:
    """A value that an author wrote as a string; raises InvalidVariable."""
    if variable.type in {"string", "enum", "datetime"}:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidVariable(variable.name, f"{text!r} is not of type {variable.type}") from error


def checked(variable: Variable, rules: Rules, value: Any) -> Any:
    """The value if its type and every rule allow it; raises InvalidVariable."""
    _check_type(variable, value)
    for compiled in rules:
        problem = compiled.broken(value)
        if problem:
            message = compiled.rule.message or f"variable {variable.name!r} {problem}"
            raise InvalidVariable(variable.name, message)
    return value


def _value(variable: Variable, rules: Rules, given: Mapping[str, Any], injection: Injection) -> Any:
    match variable.from_:
        case "constant":
            return checked(variable, rules, typed(variable, variable.value or ""))
        case "retrieval":
            return _retrieved(variable, injection.retrieved)
        case "clock":
            return _time(variable, injection.now)
        case "identity":
            attribute = variable.identity.attribute if variable.identity else "name"
            return getattr(injection, attribute) or variable.default or ""
        case "metadata":
            key = variable.metadata.key if variable.metadata else ""
            found = {variable.name: injection.metadata[key]} if key in injection.metadata else {}
            return _given(variable, rules, found, f"metadata.{key} is required by the prompt")
        case "request":
            return _given(variable, rules, given, f"variable {variable.name!r} is required")


def _given(variable: Variable, rules: Rules, given: Mapping[str, Any], missing: str) -> Any:
    if variable.name in given:
        return checked(variable, rules, given[variable.name])
    if variable.default is not None:
        return checked(variable, rules, typed(variable, variable.default))
    if variable.required:
        raise InvalidVariable(variable.name, missing)
    return ""


def _retrieved(variable: Variable, retrieved: str | Sequence[str]) -> Any:
    passages = [retrieved] if isinstance(retrieved, str) else list(retrieved)
    if variable.type == "list":
        return [passage for passage in passages if passage]
    return "\n\n".join(passages)


def _time(variable: Variable, now: datetime | None) -> str:
    if now is None:
        raise InvalidVariable(
            variable.name, f"variable {variable.name!r} needs the time, which is not given here"
        )
    clock = variable.clock or Clock()
    local = now.astimezone(ZoneInfo(clock.time_zone))
    if variable.type == "datetime":
        return local.isoformat(timespec="seconds")
    return clocks.written(local, clock.format)


def _check_type(variable: Variable, value: Any) -> None:
    name = variable.name
    is_wrong = isinstance(value, bool) != (variable.type == "boolean")
    if is_wrong or not isinstance(value, _TYPES[variable.type]):
        raise InvalidVariable(
            name, f"variable {name!r} must be of type {variable.type}, not {type(value).__name__}"
        )
    if isinstance(value, list | dict) and not is_shallow(value):
        raise InvalidVariable(name, f"variable {name!r} is nested more than {MAX_NESTING} levels deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidVariable(name, f"variable {name!r} must be a finite number")
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise InvalidVariable(name, f"variable {name!r} must be a number of at most 64 bits")
    if variable.type == "datetime" and not clocks.is_rfc3339(str(value)):
        raise InvalidVariable(
            name, f"variable {name!r} must be a time with a zone (RFC 3339), such as 2026-01-31T12:00:00Z"
        )
