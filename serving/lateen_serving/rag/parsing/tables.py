# SPDX-License-Identifier: Apache-2.0
"""Parses CSV, and writes the rows of tables so that each can be understood alone. Pure; used by `sheets.py` too."""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.text import Decoded
from lateen_serving.rag.parsing.writing import Writer

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_LINES = 20
_NUMBER = re.compile(r"[-+]?[\d.,\s]+%?")

Row = Sequence[str]


def parse(decoded: Decoded, delimiter: str) -> Parsed:
    """A file of values with delimiters."""
    writer = Writer()
    try:
        write(csv.reader(io.StringIO(decoded.text, newline=""), delimiter=delimiter), writer)
    except csv.Error as error:
        raise ParseFailure("Malformed", f"the table can't be read: {error}") from error
    return writer.parsed("CSV", "", repaired=decoded.repaired)


def delimiter_of(text: str, *, least_columns: int = 2) -> str:
    """What separates the values in each of the first lines of `text`; empty if it does not look like a table."""
    lines = list(itertools.islice(io.StringIO(text, newline=""), _SAMPLE_LINES))
    for delimiter in _DELIMITERS:
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        except csv.Error:
            continue
        if len(widths) == 1 and min(widths) >= least_columns:
            return delimiter
    return ""


def write(rows: Iterable[Row], writer: Writer) -> None:
    """Add each row as a line: `name: value; name: value` where the first row names the columns."""
    filled = (row for row in (_stripped(row) for row in rows) if any(row))
    first = next(filled, None)
    if first is None:
        return
    second = next(filled, None)
    names = first if second is not None and _names_columns(first) else None
    if names is None:
        writer.block(" | ".join(first))
    rest = itertools.chain([] if second is None else [second], filled)
    joint = "\n\n" if names else "\n"
    for row in rest:
        writer.block("; ".join(_named(names, row)) if names else " | ".join(row), joint)
        joint = "\n"


def _stripped(row: Row) -> Row:
    return [" ".join(value.split()) for value in row]


def _names_columns(row: Row) -> bool:
    return all(row) and len(set(row)) == len(row) > 1 and not any(map(_NUMBER.fullmatch, row))


def _named(names: Row, row: Row) -> Iterator[str]:
    for name, value in itertools.zip_longest(names, row, fillvalue=""):
        if value:
            yield f"{name}: {value}" if name else value
