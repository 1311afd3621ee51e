# SPDX-License-Identifier: Apache-2.0
"""Everything that is wrong with a template: one check for the operator, the gateway and the command line."""

from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompt_variables import CONVERSATION, Variable
from lateen_api.prompts import clocks, format_syntax, jinja_syntax, value_rules, values
from lateen_api.prompts.format_syntax import Malformed
from lateen_api.prompts.violations import INSTRUCTING, InvalidVariable, Text, Violation, position, texts


def violations(spec: PromptTemplateSpec) -> tuple[Violation, ...]:
    """All violations of a spec whose includes are expanded, in the order of the spec; empty when it may be live."""
    found: list[Violation] = []
    used: dict[str, Violation] = {}
    instructing: dict[str, str] = {}
    for text in texts(spec):
        try:
            for name, line, column in _names(spec, text):
                message = f"{{{name}}} is not declared in variables"
                used.setdefault(name, Violation(text.path, "UndeclaredVariable", message, line, column))
                if text.role in INSTRUCTING:
                    instructing.setdefault(name, text.path)
        except Malformed as error:
            found.append(error.violation)
    is_parsed = not found
    found += [
        Violation(
            f"messages[{n}].include", "UnresolvedInclude", "the included PromptTemplate is not put in place"
        )
        for n, item in enumerate(spec.messages)
        if item.include
    ]
    declared = [variable.name for variable in spec.variables]
    searched = {variable.retrieval.query for variable in spec.variables if variable.retrieval is not None}
    found += [violation for name, violation in used.items() if name not in declared]
    for number, variable in enumerate(spec.variables):
        path = f"variables[{number}]"
        if variable.name in declared[:number]:
            found.append(Violation(path, "InvalidVariable", f"{variable.name!r} is declared twice"))
        if is_parsed and variable.name not in used and variable.name not in searched:
            message = f"{variable.name!r} is declared but no message uses it"
            found.append(Violation(path, "UnusedVariable", message))
        found += [
            Violation(f"{path}{where}", "InvalidVariable", message) for where, message in _own(variable)
        ]
    return (*found, *_searches(spec), *_window(spec, declared, instructing), *_output(spec))


def _names(spec: PromptTemplateSpec, text: Text) -> Iterator[tuple[str, int, int]]:
    if spec.syntax == "jinja":
        yield from jinja_syntax.names(text)
        return
    for part in format_syntax.parse(text):
        if part.is_variable:
            yield part.text, *position(text.content, part.offset)


def _own(variable: Variable) -> Iterator[tuple[str, str]]:
    if variable.name == CONVERSATION:
        yield ".name", f"{CONVERSATION!r} is taken: contextWindow.priority means the caller's turns by it"
    is_sound = True
    for number, rule in enumerate(variable.rules or ()):
        try:
            value_rules.CompiledRule(rule)
        except value_rules.InvalidRule as error:
            is_sound = False
            yield f".rules[{number}]", str(error)
    if is_sound:
        yield from _own_values(variable)
    if variable.clock is not None:
        yield from _clock(variable.clock.time_zone, variable.clock.format)


def _own_values(variable: Variable) -> Iterator[tuple[str, str]]:
    rules = values.compiled_rules(variable)
    for where in ("default", "value", "example"):
        text = getattr(variable, where)
        if text is None:
            continue
        try:
            values.checked(variable, rules, values.typed(variable, text))
        except InvalidVariable as error:
            yield f".{where}", str(error)


def _clock(time_zone: str, form: str) -> Iterator[tuple[str, str]]:
    try:
        ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):
        yield ".clock.timeZone", f"{time_zone!r} is not an IANA time zone"
    if not clocks.is_format(form):
        yield ".clock.format", "only %Y %m %d %H %M %S %a %A %b %B %j %y %I %p %z %Z and %% can be used"


def _searches(spec: PromptTemplateSpec) -> Iterator[Violation]:
    """What is searched for must be a text that the request brings."""
    for number, variable in enumerate(spec.variables):
        name = variable.retrieval.query if variable.retrieval is not None else None
        if name is None:
            continue
        path = f"variables[{number}].retrieval.query"
        asked = next((each for each in spec.variables if each.name == name), None)
        if asked is None:
            yield Violation(path, "UndeclaredVariable", f"{name!r} is not declared in variables")
        elif asked.from_ not in ("request", "metadata") or asked.type not in ("string", "enum"):
            message = f"{name!r} must be a string or an enum that is from: request or from: metadata"
            yield Violation(path, "InvalidVariable", message)


def _output(spec: PromptTemplateSpec) -> Iterator[Violation]:
    if spec.output.schema_ is None:
        return
    try:
        value_rules.schema_validator(spec.output.schema_)
    except value_rules.InvalidRule as error:
        yield Violation("output.schema", "InvalidSchema", str(error))


def _window(
    spec: PromptTemplateSpec, declared: list[str], instructing: Mapping[str, str]
) -> Iterator[Violation]:
    priority = (spec.context_window.priority or ()) if spec.context_window else ()
    for number, name in enumerate(priority):
        path = f"contextWindow.priority[{number}]"
        if name not in (*declared, CONVERSATION):
            message = f"{name!r} is neither a variable nor {CONVERSATION!r}"
            yield Violation(path, "UndeclaredVariable", message)
        if name in instructing:
            message = (
                f"{name!r} stands in {instructing[name]}, and a system message is never cut;"
                " use it in a message of another role, or leave it out here"
            )
            yield Violation(path, "InvalidWindow", message)
