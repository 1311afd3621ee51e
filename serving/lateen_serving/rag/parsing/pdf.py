# SPDX-License-Identifier: Apache-2.0
"""Parses PDF: the text of each page, with its number; bookmarks are headings. Pure, apart from being slow."""

import io
import zlib
from collections.abc import Iterator
from typing import Any

import pypdf
from pypdf.errors import (
    DependencyError,
    FileNotDecryptedError,
    LimitReachedError,
    PdfReadError,
    PyPdfError,
    WrongPasswordError,
)  # fmt: skip

from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.writing import Writer

MAX_PAGES = 5_000
MAX_BOOKMARKS = 5_000
_BROKEN = (
    PyPdfError, KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError,
    NotImplementedError, OSError, ArithmeticError, UnicodeError, zlib.error,
)  # fmt: skip
"""What pypdf raises over files that are not as they should be."""


def parse(data: bytes) -> Parsed:
    """A PDF document."""
    try:
        return _parsed(data)
    except LimitReachedError as error:
        raise ParseFailure("Bomb", "a stream of the PDF unpacks to more than a reader should take") from error
    except (FileNotDecryptedError, WrongPasswordError) as error:
        raise ParseFailure("Encrypted", "the PDF asks for a password; store it without one") from error
    except DependencyError as error:
        raise ParseFailure("Unsupported", "the PDF is packed or encrypted in an unusual way") from error
    except _BROKEN as error:
        raise ParseFailure("Malformed", f"the PDF can't be read: {type(error).__name__}") from error


def _parsed(data: bytes) -> Parsed:
    reader = pypdf.PdfReader(io.BytesIO(data))
    # Many PDFs are encrypted with an empty password, only to forbid printing; everybody may read them.
    if reader.is_encrypted and not reader.decrypt(""):
        raise FileNotDecryptedError("it has a password")
    pages = len(reader.pages)
    if pages > MAX_PAGES:
        raise ParseFailure("TooLarge", f"the PDF has {pages} pages; at most {MAX_PAGES} are read")
    bookmarks = _bookmarks(reader)
    writer = Writer()
    for number, page in enumerate(reader.pages, start=1):
        writer.page(number)
        for level, title in bookmarks.get(number, ()):
            writer.bookmark(level, title)
        writer.block(page.extract_text())
    about = reader.metadata
    title = str(about.title or "") if about else ""
    try:
        return writer.parsed("PDF", title, updated_at=_modified(about))
    except ParseFailure as failure:
        if failure.reason == "Empty":
            raise ParseFailure(
                "Empty", "the PDF has no text, only pictures; store it with a text layer"
            ) from failure
        raise


def _modified(about: Any) -> str:
    try:
        moment = about.modification_date or about.creation_date if about else None
    except (ValueError, TypeError):  # a date in no known form
        return ""
    if moment is None:
        return ""
    return str(moment.isoformat()) if moment.tzinfo else f"{moment.isoformat()}Z"


def _bookmarks(reader: pypdf.PdfReader) -> dict[int, list[tuple[int, str]]]:
    """Level and title of bookmarks by page; none where they are broken: they are not the text."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for count, (level, item) in enumerate(_outline(reader.outline, 1)):
            number = reader.get_destination_page_number(item)
            if number is not None and number >= 0 and count < MAX_BOOKMARKS:
                found.setdefault(number + 1, []).append((level, str(item.title or "")))
    except (PdfReadError, *_BROKEN):
        return {}
    return found


def _outline(items: Any, level: int) -> Iterator[tuple[int, Any]]:
    for item in items:
        if isinstance(item, list):
            yield from _outline(item, level + 1)
        else:
            yield level, item
