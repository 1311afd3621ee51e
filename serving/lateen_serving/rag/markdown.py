# SPDX-License-Identifier: Apache-2.0
"""Finds the outline of Markdown text: ATX headings and fenced code. Pure; used by `parsing/plain.py`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lateen_serving.rag.outline import Heading

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")


@dataclass(frozen=True)
class Line:
    """One line of a text, without its newline."""

    start: int
    text: str
    fenced: bool
    """Whether it belongs to a fenced code block; such a line is never a heading."""

    @property
    def heading(self) -> tuple[int, str] | None:
        """Level and title if this is an ATX heading."""
        match = None if self.fenced else _HEADING.match(self.text)
        return None if match is None else (len(match[1]), (match[2] or "").strip())


def lines(text: str) -> Iterator[Line]:
    """The lines of `text`; an unclosed fence reaches to the end, as renderers do it."""
    start, fence = 0, ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if fence:
            yield Line(start, line, fenced=True)
            closes = match is not None and match[1].startswith(fence) and not match[2].strip()
            fence = "" if closes else fence
        else:
            opens = match is not None and not (match[1][0] == "`" and "`" in match[2])
            yield Line(start, line, fenced=opens)
            fence = match[1] if opens and match is not None else ""
        start += len(line) + 1


def headings(text: str) -> tuple[Heading, ...]:
    """The headings of `text` in order."""
    return tuple(
        Heading(line.start, line.start + len(line.text), *line.heading)
        for line in lines(text)
        if line.heading is not None
    )


def fences(text: str) -> list[tuple[int, int]]:
    """Start and end offsets of the fenced lines, adjacent ones joined."""
    found: list[tuple[int, int]] = []
    for line in lines(text):
        if line.fenced:
            end = line.start + len(line.text)
            if found and found[-1][1] + 1 == line.start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((line.start, end))
    return found
