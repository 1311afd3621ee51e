# SPDX-License-Identifier: Apache-2.0
"""Headings of a text and the sections between them. Pure; used by the parsers, `definitions.py` and `cutting.py`."""

from collections.abc import Sequence
from dataclasses import dataclass

SEPARATOR = " > "
MAX_PATH = 512
"""Characters of a heading path; of a longer one the end is kept, which says most."""


@dataclass(frozen=True)
class Heading:
    """A heading of a text; one that stands beside the text, not in it, has no length."""

    start: int
    """Offset of its first character."""

    end: int
    """Offset after its last character."""

    level: int
    """1 is the outermost."""

    title: str


@dataclass(frozen=True)
class Section:
    """What stands between two headings."""

    path: str
    """Headings above it, `A > B`."""

    start: int
    """Offset of its first character, after its heading."""

    end: int


def sections(text: str, headings: Sequence[Heading]) -> list[Section]:
    """The sections of `text` in order; together with the headings they cover it. Blank ones are left out."""
    found: list[Section] = []
    trail: list[Heading] = []
    start = 0
    for heading in headings:
        found.append(Section(_path(trail), start, heading.start))
        trail = [above for above in trail if above.level < heading.level] + [heading]
        start = heading.end
    found.append(Section(_path(trail), start, len(text)))
    return [section for section in found if text[section.start : section.end].strip()]


def _path(trail: Sequence[Heading]) -> str:
    return SEPARATOR.join(heading.title for heading in trail if heading.title)[-MAX_PATH:]
