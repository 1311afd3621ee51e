# SPDX-License-Identifier: Apache-2.0
"""Puts a document's text together, block by block, and keeps track of headings and pages. Used by the parsers."""

from collections.abc import Mapping

from lateen_serving.rag.outline import Heading
from lateen_serving.rag.parsing.parsed import (
    MAX_CHARACTERS,
    MAX_TITLE,
    Kind,
    MetadataValue,
    Parsed,
    ParseFailure,
)
from lateen_serving.rag.parsing.text import clean

MAX_HEADING = 300
"""Characters of a heading; a longer one is a paragraph that only looks like one."""


class Writer:
    """Collects cleaned blocks; raises ParseFailure(TooLarge) beyond `MAX_CHARACTERS`."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._fences: list[tuple[int, int]] = []
        self._pages: list[tuple[int, int]] = []

    def block(self, text: str, joint: str = "\n\n") -> None:
        """Add a paragraph, after `joint`; nothing when there is nothing to see in it."""
        self._add(clean(text), joint)

    def heading(self, level: int, title: str) -> None:
        """Add a heading; level 1 is the outermost."""
        title = " ".join(clean(title).split())
        if self._add(title) and len(title) <= MAX_HEADING:
            self._headings.append(Heading(self._length - len(title), self._length, level, title))

    def bookmark(self, level: int, title: str) -> None:
        """What follows stands under a heading that is not part of the text."""
        title = " ".join(clean(title).split())[:MAX_HEADING]
        if title:
            self._headings.append(Heading(self._length, self._length, level, title))

    def preformatted(self, text: str) -> None:
        """Add text whose blank lines end no paragraph."""
        text = clean(text)
        if self._add(text):
            self._fences.append((self._length - len(text), self._length))

    def page(self, number: int) -> None:
        """What follows is on page `number`."""
        self._pages.append((self._length, number))

    def parsed(
        self,
        kind: Kind,
        title: str,
        *,
        updated_at: str = "",
        metadata: Mapping[str, MetadataValue] | None = None,
        repaired: bool = False,
    ) -> Parsed:
        """The document; ParseFailure(Empty) if nothing was added. Without `title` it has its first heading's."""
        if not self._parts:
            raise ParseFailure("Empty", "the file has no text")
        title = " ".join(clean(title).split()) or (self._headings[0].title if self._headings else "")
        return Parsed(
            title=title[:MAX_TITLE],
            text="".join(self._parts),
            kind=kind,
            headings=tuple(self._headings),
            fences=tuple(self._fences),
            pages=tuple(self._pages),
            updated_at=updated_at,
            metadata=metadata or {},
            repaired=repaired,
        )

    def _add(self, text: str, joint: str = "\n\n") -> bool:
        if not text:
            return False
        if self._parts:
            text = joint + text
        self._parts.append(text)
        self._length += len(text)
        if self._length > MAX_CHARACTERS:
            raise ParseFailure("TooLarge", f"its text has more than {MAX_CHARACTERS} characters")
        return True
