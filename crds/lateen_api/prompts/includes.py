# SPDX-License-Identifier: Apache-2.0
"""`include`: messages and variables of other PromptTemplates put in their place. Pure; `lookup` finds the others."""

from collections.abc import Callable

from lateen_api.prompt_template import MAX_MESSAGES, MAX_VARIABLES, PromptMessage, PromptTemplateSpec
from lateen_api.prompt_variables import Variable

Lookup = Callable[[str, str], PromptTemplateSpec | None]
"""Name and version to the spec as its author wrote it; None if there is none."""

MAX_DEPTH = 8


class IncludeError(ValueError):
    """An include can't be put in place; the message names the way to it."""


class ReferenceNotFound(IncludeError):
    """The PromptTemplate or its version does not exist (yet)."""


class IncludeCycle(IncludeError):
    """A template includes itself through others."""


class IncludeConflict(IncludeError):
    """Templates disagree about a variable or the syntax, or are too large or deep together."""


def expand(spec: PromptTemplateSpec, lookup: Lookup, name: str = "") -> PromptTemplateSpec:
    """`spec` without includes; raises IncludeError.

    Args:
        spec: The including template.
        lookup: Finds the included ones.
        name: Name of the including template, so that a cycle through it is seen.

    """
    if not any(item.include for item in spec.messages):
        return spec
    variables = {variable.name: variable for variable in spec.variables}
    messages = _expanded(spec, lookup, ((name, spec.version),), variables)
    if len(messages) > MAX_MESSAGES or len(variables) > MAX_VARIABLES:
        raise IncludeConflict(
            f"with all includes there are {len(messages)} messages and {len(variables)} variables;"
            f" at most {MAX_MESSAGES} and {MAX_VARIABLES} are allowed"
        )
    return spec.model_copy(update={"messages": messages, "variables": list(variables.values())})


def _expanded(
    spec: PromptTemplateSpec,
    lookup: Lookup,
    way: tuple[tuple[str, str], ...],
    variables: dict[str, Variable],
) -> list[PromptMessage]:
    messages: list[PromptMessage] = []
    for number, item in enumerate(spec.messages):
        if item.include is None:
            messages.append(item)
            continue
        target = (item.include.name, item.include.version)
        shown = " -> ".join(f"{name}:{version}" for name, version in (*way, target))
        if target in way:
            raise IncludeCycle(f"messages[{number}].include: {shown} is a cycle")
        if len(way) >= MAX_DEPTH:
            raise IncludeConflict(f"messages[{number}].include: {shown} is deeper than {MAX_DEPTH}")
        included = lookup(*target)
        if included is None:
            raise ReferenceNotFound(
                f"messages[{number}].include: PromptTemplate {target[0]} has no version {target[1]!r}"
            )
        _merge(spec, included, shown, variables)
        messages += _expanded(included, lookup, (*way, target), variables)
        if len(messages) > MAX_MESSAGES:
            raise IncludeConflict(f"{shown}: more than {MAX_MESSAGES} messages with all includes")
    return messages


def _merge(
    spec: PromptTemplateSpec, included: PromptTemplateSpec, shown: str, variables: dict[str, Variable]
) -> None:
    if included.syntax != spec.syntax:
        raise IncludeConflict(f"{shown}: syntax {included.syntax} can't be included in syntax {spec.syntax}")
    for variable in included.variables:
        if variables.setdefault(variable.name, variable) != variable:
            raise IncludeConflict(f"{shown}: variable {variable.name!r} is declared differently on the way")
