# SPDX-License-Identifier: Apache-2.0
"""Finds the outline of Markdown text: ATX headings, their paths, fenced code. Pure; used by `parse.py`, `chunking.py`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
SEPARATOR = " > "
MAX_PATH = 512
"""Characters of a heading path; of a longer one the end is kept, which says most."""


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


@dataclass(frozen=True)
class Section:
    """What stands between two headings."""

    path: str
    """Headings above it, `A > B`."""

    start: int
    """Offset of its first character, after its heading."""

    end: int


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


def sections(text: str) -> list[Section]:
    """The sections of `text` in order; together with the heading lines they cover it."""
    found: list[Section] = []
    trail: list[tuple[int, str]] = []
    start = 0
    for line in lines(text):
        heading = line.heading
        if heading is None:
            continue
        found.append(Section(_path(trail), start, line.start))
        trail = [above for above in trail if above[0] < heading[0]] + [heading]
        start = min(line.start + len(line.text) + 1, len(text))
    found.append(Section(_path(trail), start, len(text)))
    return [section for section in found if text[section.start : section.end].strip()]


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


def first_heading(text: str) -> str:
    """The title of the first heading that has one; empty if there is none."""
    titles = (line.heading[1] for line in lines(text) if line.heading is not None)
    return next((title for title in titles if title), "")


def _path(trail: list[tuple[int, str]]) -> str:
    return SEPARATOR.join(title for _, title in trail if title)[-MAX_PATH:]
