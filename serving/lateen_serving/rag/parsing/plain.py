# SPDX-License-Identifier: Apache-2.0
"""Parses Markdown, plain text and source code: what is text already. Pure."""

from lateen_serving.rag import definitions, markdown
from lateen_serving.rag.parsing import metadata
from lateen_serving.rag.parsing.parsed import MAX_CHARACTERS, MAX_TITLE, Parsed, ParseFailure
from lateen_serving.rag.parsing.text import Decoded, clean


def parse_markdown(decoded: Decoded) -> Parsed:
    """A Markdown file; its front matter becomes metadata, `title` in it the title."""
    about, text = metadata.front_matter(_seen(decoded))
    if not text:
        raise ParseFailure("Empty", "the file has no text")
    headings = markdown.headings(text)
    title = about.pop("title", "") or next((found.title for found in headings if found.title), "")
    return Parsed(
        title=str(title)[:MAX_TITLE],
        text=text,
        kind="Markdown",
        headings=headings,
        fences=tuple(markdown.fences(text)),
        metadata=about,
        repaired=decoded.repaired,
    )


def parse_text(decoded: Decoded) -> Parsed:
    """A file of plain text."""
    return Parsed("", _seen(decoded), "Text", repaired=decoded.repaired)


def parse_code(decoded: Decoded, language: str) -> Parsed:
    """A file of source code in a programming language; its definitions are the headings."""
    text = _seen(decoded)
    headings = definitions.headings(text, language)
    return Parsed("", text, "Code", headings, code=language, repaired=decoded.repaired)


def _seen(decoded: Decoded) -> str:
    text = clean(decoded.text)
    if not text:
        raise ParseFailure("Empty", "the file has no text")
    if len(text) > MAX_CHARACTERS:
        raise ParseFailure("TooLarge", f"its text has more than {MAX_CHARACTERS} characters")
    return text
