# SPDX-License-Identifier: Apache-2.0
"""Prompt rendering: one implementation for the operator (checks), the gateway and the command line.

Pure. Placeholders are found by parsing, never by substitution into text that is parsed again: a value can't open
new placeholders.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompt_variables import PassageSearch
from lateen_api.prompts import format_syntax, jinja_syntax, post_processing
from lateen_api.prompts.checking import violations
from lateen_api.prompts.values import Injection, Resolver, written
from lateen_api.prompts.violations import MAX_MESSAGE, MAX_PROMPT, InvalidVariable, TooLong, Violation, texts

__all__ = [
    "Injection",
    "InvalidTemplate",
    "InvalidVariable",
    "RenderedMessage",
    "Value",
    "Violation",
    "violations",
]

Value = str | int | float | bool | list[Any] | dict[str, Any]
"""What a caller may give for a variable."""


class InvalidTemplate(ValueError):
    """The template itself is wrong; the message names every field and position."""


@dataclass(frozen=True)
class RenderedMessage:
    """One message, ready for a chat template."""

    role: str
    content: str


def check(spec: PromptTemplateSpec) -> None:
    """Raise InvalidTemplate unless `violations` finds none."""
    found = violations(spec)
    if found:
        raise InvalidTemplate("; ".join(str(violation) for violation in found))


class CompiledPrompt:
    """A prompt that passed `check`, parsed once; it holds no values and may be used for any number of requests."""

    def __init__(self, spec: PromptTemplateSpec) -> None:
        self.spec = spec
        self._texts = texts(spec)
        self._resolver = Resolver(spec)
        is_jinja = spec.syntax == "jinja"
        self._templates = [jinja_syntax.Template(text) for text in self._texts] if is_jinja else []
        self._parts = [] if is_jinja else [format_syntax.parse(text) for text in self._texts]

    def render(self, variables: Mapping[str, Any], injection: Injection) -> list[RenderedMessage]:
        """The messages with every placeholder filled; raises InvalidVariable."""
        rendered = self.filled(self.values(variables, injection))
        for position, message in enumerate(rendered):
            if not message.content:
                raise InvalidVariable("", f"messages[{position}] is empty once rendered")
        return rendered

    def values(self, variables: Mapping[str, Any], injection: Injection) -> dict[str, Any]:
        """Each variable's checked value; raises InvalidVariable."""
        return self._resolver.resolve(variables, injection)

    def refusals(self, variables: Mapping[str, Any], injection: Injection) -> list[InvalidVariable]:
        """Everything for which `render` refuses these values; empty where it does not."""
        found = self._resolver.refusals(variables, injection)
        if not found:
            try:
                self.render(variables, injection)
            except InvalidVariable as error:
                found.append(error)
        return found

    def filled(self, values: Mapping[str, Any]) -> list[RenderedMessage]:
        """The messages with checked values, some of them perhaps shortened since; raises InvalidVariable."""
        processed = post_processing.apply(self._contents(values), self.spec.post_processing)
        return [
            RenderedMessage(text.role, content)
            for text, content in zip(self._texts, processed, strict=True)
            if content is not None
        ]

    def _contents(self, values: Mapping[str, Any]) -> list[str]:
        if self.spec.syntax == "jinja":
            budget = jinja_syntax.Budget(values)
            return _bounded(template.render(values, budget) for template in self._templates)
        said = {name: written(value) for name, value in values.items()}
        return _bounded(
            _joined([said[part.text] if part.is_variable else part.text for part in parts])
            for parts in self._parts
        )


def _bounded(contents: Iterable[str]) -> list[str]:
    """All of them, made one after the other until they are too long together."""
    found, characters = [], 0
    for content in contents:
        characters += len(content)
        if characters > MAX_PROMPT:
            raise TooLong(f"the prompt has more than {MAX_PROMPT} characters with these values")
        found.append(content)
    return found


def _joined(pieces: Sequence[str]) -> str:
    if sum(map(len, pieces)) > MAX_MESSAGE:
        raise TooLong
    return "".join(pieces)


def render(
    spec: PromptTemplateSpec,
    variables: Mapping[str, Any],
    retrieved: str | None = None,
    injection: Injection | None = None,
) -> list[RenderedMessage]:
    """The messages with every placeholder filled.

    Args:
        spec: A prompt that passed `check`.
        variables: The caller's values by name.
        retrieved: Text for the variable that is `from: retrieval`; None counts as no passages.
        injection: What else is injected; it wins over `retrieved`.

    Raises:
        InvalidVariable: A value is missing, unknown, injected, of another type, or breaks a rule.

    """
    return CompiledPrompt(spec).render(variables, injection or Injection(retrieved=retrieved or ""))


def search(spec: PromptTemplateSpec) -> PassageSearch | None:
    """The search that fills the prompt's passages; None where the prompt names none."""
    return next((each.retrieval for each in spec.variables if each.retrieval is not None), None)


def wants_retrieval(spec: PromptTemplateSpec) -> bool:
    """Whether a variable of the prompt is filled with retrieved passages."""
    return any(variable.from_ == "retrieval" for variable in spec.variables)
