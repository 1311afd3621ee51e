# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a template, as data: the operator, the gateway and the command line show the same."""

import re
from dataclasses import dataclass

from lateen_api.prompt_template import PromptTemplateSpec

INSTRUCTING = ("system", "developer")
"""Roles whose messages are never cut."""

_LINE_END = re.compile("\r\n|[\r\n]")


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong.

    Attributes:
        path: Field of the spec, such as `messages[0].content`.
        reason: CamelCase: SyntaxError, Forbidden, UndeclaredVariable, UnusedVariable, InvalidVariable, UnresolvedInclude,
            InvalidSchema, InvalidWindow.
        message: What is wrong and what to do.
        line: Line within the field, from 1; 0 where it is the field as a whole.
        column: Column within that line, from 1; 0 where `line` is.

    """

    path: str
    reason: str
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.path}{where}: {self.message}"


class InvalidVariable(ValueError):
    """A caller's value is missing, unknown or breaks a rule.

    Attributes:
        variable: Name of the variable.

    """

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable


MAX_MESSAGE = 1_000_000
"""Characters of one rendered message."""

MAX_PROMPT = 4_000_000
"""Characters of all rendered messages together."""


class TooLong(InvalidVariable):
    """A message is longer than `MAX_MESSAGE` with these values, or all of them than `MAX_PROMPT`."""

    def __init__(
        self, message: str = f"a message has more than {MAX_MESSAGE} characters with these values"
    ) -> None:
        super().__init__("", message)


@dataclass(frozen=True)
class Text:
    """One text of the messages in the template's syntax."""

    path: str
    role: str
    content: str


def texts(spec: PromptTemplateSpec) -> list[Text]:
    """Every text in order; examples as their user and assistant messages, includes left out."""
    found = []
    for number, item in enumerate(spec.messages):
        if item.content is not None:
            found.append(Text(f"messages[{number}].content", item.role or "user", item.content))
        for position, example in enumerate(item.examples or ()):
            path = f"messages[{number}].examples[{position}]"
            found.append(Text(f"{path}.user", "user", example.user))
            found.append(Text(f"{path}.assistant", "assistant", example.assistant))
    return found


def position(content: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1; lines end with a line feed, a carriage return or both."""
    lines = _LINE_END.split(content[:offset])
    return len(lines), len(lines[-1]) + 1
