# SPDX-License-Identifier: Apache-2.0
"""Parses XLSX: each sheet's rows, its name as a heading, its number as the page. Pure.

Hidden sheets, rows and columns are left out. Formulas stand for their last computed value.
"""

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from lateen_serving.rag.parsing import office, tables
from lateen_serving.rag.parsing.archives import Archive
from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.writing import Writer

_WORKBOOK = "xl/workbook.xml"
MAX_COLUMNS = 1024
"""Columns of a row that are read."""

_DATES = frozenset((*range(14, 23), *range(45, 48)))
"""Built-in number formats of dates and times."""

_LITERAL = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')
_TRUE = frozenset({"1", "true"})
_EPOCH = datetime.datetime(1899, 12, 30)
_LAST_DAY = 2_958_465


@dataclass(frozen=True)
class _Book:
    strings: Sequence[str]
    dates: frozenset[int]
    """Styles that show numbers as dates."""


def parse(archive: Archive) -> Parsed:
    """A workbook."""
    root = archive.tree(_WORKBOOK)
    if root is None:
        raise ParseFailure("Malformed", f"{_WORKBOOK} is missing")
    targets = office.targets(archive, _WORKBOOK)
    book = _Book(_strings(archive), _date_styles(archive))
    sheets = office.child(root, "sheets")
    writer = Writer()
    for number, sheet in enumerate(() if sheets is None else sheets, start=1):
        member = targets.get(office.relation(sheet), "")
        if sheet.get("state", "visible") == "visible" and member in archive.names:
            writer.page(number)
            writer.heading(1, sheet.get("name", ""))
            tables.write(_rows(archive, member, book), writer)
    about = office.properties(archive)
    return writer.parsed("XLSX", about.title, updated_at=about.modified)


def _strings(archive: Archive) -> list[str]:
    """The shared strings."""
    found: list[str] = []
    if "xl/sharedStrings.xml" not in archive.names:
        return found
    for event, element in archive.events("xl/sharedStrings.xml"):
        if event == "end" and office.local(element) == "si":
            found.append(_inline(element))
            element.clear()
    return found


def _inline(element: Element) -> str:
    """The text of a string; hints for its pronunciation are left out."""
    parts = [element, *(part for part in element if office.local(part) == "r")]
    return "".join(inner.text or "" for part in parts for inner in part if office.local(inner) == "t")


def _date_styles(archive: Archive) -> frozenset[int]:
    root = archive.tree("xl/styles.xml")
    if root is None:
        return frozenset()
    formats = office.child(root, "numFmts")
    own = {
        int(item.get("numFmtId", "0"))
        for item in (() if formats is None else formats)
        if re.search("[ymdhs]", _LITERAL.sub("", item.get("formatCode", "")), re.IGNORECASE)
    }
    styles = office.child(root, "cellXfs")
    numbers = [int(style.get("numFmtId", "0")) for style in (() if styles is None else styles)]
    return frozenset(at for at, number in enumerate(numbers) if number in _DATES | own)


def _rows(archive: Archive, member: str, book: _Book) -> Iterator[list[str]]:
    hidden: set[int] = set()
    for event, element in archive.events(member):
        if event == "start":
            continue
        name = office.local(element)
        if name == "col" and element.get("hidden") in _TRUE:
            first, last = int(element.get("min", "1")), int(element.get("max", "1"))
            hidden.update(range(first - 1, min(last, MAX_COLUMNS)))
        elif name == "row":
            if element.get("hidden") not in _TRUE:
                yield _row(element, book, hidden)
            element.clear()


def _row(row: Element, book: _Book, hidden: set[int]) -> list[str]:
    values: dict[int, str] = {}
    for position, cell in enumerate(row):
        column = _column(cell.get("r", ""), position)
        if column < MAX_COLUMNS and column not in hidden:
            values[column] = _value(cell, book)
    width = max((column for column, value in values.items() if value), default=-1) + 1
    return [values.get(column, "") for column in range(width) if column not in hidden]


def _column(reference: str, position: int) -> int:
    """Column number from 0 in a reference such as `AB12`."""
    letters = reference.rstrip("0123456789")
    if not letters.isascii() or not letters.isalpha():
        return position
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number - 1


def _value(cell: Element, book: _Book) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = office.child(cell, "is")
        return "" if inline is None else _inline(inline)
    found = office.child(cell, "v")
    text = "" if found is None else found.text or ""
    if kind == "s":
        return book.strings[int(text)] if text.isdecimal() and int(text) < len(book.strings) else ""
    if kind == "b":
        return {"1": "true", "0": "false"}.get(text, text)
    if kind == "n" and int(cell.get("s", "0")) in book.dates:
        return _date(text)
    return text


def _date(serial: str) -> str:
    try:
        days = float(serial)
    except ValueError:
        return serial
    if not 0 <= days <= _LAST_DAY:
        return serial
    moment = _EPOCH + datetime.timedelta(seconds=round(days * 86400))
    return moment.date().isoformat() if days == int(days) else moment.isoformat(" ", "minutes")
