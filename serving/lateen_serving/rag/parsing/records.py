# SPDX-License-Identifier: Apache-2.0
"""Parses JSON and JSON Lines: `path: value` lines, one paragraph per record, so that each can be found alone. Pure."""

import json
import re
from collections.abc import Iterator
from typing import Any

from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.text import Decoded
from lateen_serving.rag.parsing.writing import Writer

MAX_DEPTH = 64
"""Levels of arrays and objects."""

MAX_VALUES = 1_000_000
"""Values of a file."""

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|([\[{])|([\]}])', re.DOTALL)
_LINES_TO_TRY = 3


def parse(decoded: Decoded) -> Parsed:
    """A JSON file; each item of an outer array is a record."""
    value = _loaded(decoded.text, "the file")
    return _written(value if isinstance(value, list) else [value], decoded)


def parse_lines(decoded: Decoded) -> Parsed:
    """A file with a JSON value on each line."""
    lines = enumerate(decoded.text.splitlines(), start=1)
    return _written((_loaded(line, f"line {number}") for number, line in lines if line.strip()), decoded)


def is_json(text: str) -> bool:
    """Whether `text` is one JSON array or object; one nested beyond reason counts."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        _loaded(text, "")
    except ParseFailure as failure:
        return failure.reason == "Bomb"
    return True


def is_lines(text: str) -> bool:
    """Whether `text` begins with several lines that are JSON objects."""
    lines = [line for line in text[: 1 << 16].split("\n", _LINES_TO_TRY)[:_LINES_TO_TRY] if line.strip()]
    return len(lines) > 1 and all(line.lstrip().startswith("{") and is_json(line) for line in lines)


def _loaded(text: str, where: str) -> Any:
    _check_depth(text, where)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ParseFailure("Malformed", f"{where} is no JSON: it can't be read{place}") from error


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += bool(match[1]) - bool(match[2])
        if depth > MAX_DEPTH:
            raise ParseFailure("Bomb", f"{where} is nested deeper than {MAX_DEPTH} levels")


def _written(records: Any, decoded: Decoded) -> Parsed:
    writer = Writer()
    values = 0
    for record in records:
        joint = "\n\n"
        for line in _flat(record, ""):
            writer.block(line, joint)
            joint = "\n"
            values += 1
            if values > MAX_VALUES:
                raise ParseFailure("TooLarge", f"it has more than {MAX_VALUES} values")
    return writer.parsed("JSON", "", repaired=decoded.repaired)


def _flat(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner, path)
    elif value is not None:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{path}: {text}" if path else text
