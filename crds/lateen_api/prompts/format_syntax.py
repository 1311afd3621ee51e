# SPDX-License-Identifier: Apache-2.0
"""The syntax `format`: `{name}` and nothing else; `{{` and `}}` are literal braces. Parsed, never substituted twice."""

from collections.abc import Iterator
from dataclasses import dataclass

from lateen_api.prompts.violations import Text, Violation, position

_REMEDY = "write {{ and }} for literal braces"


@dataclass(frozen=True)
class Part:
    """Literal text, or a placeholder where `is_variable`."""

    text: str
    is_variable: bool
    offset: int


class Malformed(ValueError):
    """The text is no template; `violation` says where and why."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


def parse(text: Text) -> list[Part]:
    """The parts of a text in order; raises Malformed."""
    return list(_parts(text))


def _parts(text: Text) -> Iterator[Part]:
    content, at = text.content, 0
    while at < len(content):
        if content.startswith(("{{", "}}"), at):
            yield Part(content[at], False, at)
            at += 2
        elif content[at] == "{":
            end = content.find("}", at)
            if end < 0:
                raise _malformed(text, at, f"'{{' is never closed; {_REMEDY}")
            name = content[at + 1 : end]
            if not (name.isascii() and name.isidentifier()):
                shown = name if len(name) <= 40 else f"{name[:40]}…"
                raise _malformed(
                    text,
                    at,
                    f"placeholder {{{shown}}} must be a plain name without attributes, indexes or formats; {_REMEDY}",
                )
            yield Part(name, True, at)
            at = end + 1
        elif content[at] == "}":
            raise _malformed(text, at, f"single '}}' without '{{'; {_REMEDY}")
        else:
            end = min(
                (n for n in (content.find("{", at), content.find("}", at)) if n >= 0), default=len(content)
            )
            yield Part(content[at:end], False, at)
            at = end


def _malformed(text: Text, offset: int, message: str) -> Malformed:
    return Malformed(Violation(text.path, "SyntaxError", message, *position(text.content, offset)))
