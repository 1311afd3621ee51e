# SPDX-License-Identifier: Apache-2.0
"""Attributes of passages, and filters over them. Pure; used by `schema.py`, `where.py` and the gateway.

Weaviate keeps the attributes of a passage as tags, texts that are there or not: keys are the users' own, and a property
for each of them would have to be known before the first document. A number has a tag for every prefix of its
sixteen digits in base 16, made so that digits are ordered as numbers are; all numbers above or below one are then those
with one of at most 241 tags.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = str | float | bool
"""Of an attribute. Whole numbers may be `int`."""

Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]

_HEX = "0123456789abcdef"
_SIGN = 1 << 63
_ALL = (1 << 64) - 1


@dataclass(frozen=True)
class Comparison:
    """A condition on one attribute. `ne` and `nin` also hold where the attribute is missing, the others don't."""

    key: str
    operator: Operator
    values: tuple[Value, ...]
    """One, or several for `in` and `nin`; numbers for `gt`, `gte`, `lt`, `lte`."""


@dataclass(frozen=True)
class Compound:
    """All or any of some conditions."""

    operator: Literal["and", "or"]
    filters: tuple["Filter", ...]


Filter: TypeAlias = Comparison | Compound


@dataclass(frozen=True)
class Terms:
    """A comparison in tags."""

    tags: list[str]
    """A passage matches when it has one of these."""

    negated: bool
    """A passage matches when it has none of these."""


def tags(attributes: Mapping[str, Value]) -> list[str]:
    """The tags of a passage with `attributes`, which are finite where they are numbers."""
    return [tag for key, value in attributes.items() for tag in _tags(key, value)]


def terms(comparison: Comparison) -> Terms:
    """The tags to look for."""
    match comparison.operator:
        case "eq" | "in":
            return Terms([_exact(comparison.key, value) for value in comparison.values], False)
        case "ne" | "nin":
            return Terms([_exact(comparison.key, value) for value in comparison.values], True)
        case _:
            return Terms(list(_range(comparison)), False)


def _tags(key: str, value: Value) -> Iterator[str]:
    if isinstance(value, str | bool):
        yield _exact(key, value)
        return
    digits = _digits(value)
    for length in range(1, len(digits) + 1):
        yield _number(key, digits[:length])


def _exact(key: str, value: Value) -> str:
    if isinstance(value, str | bool):
        return json.dumps([key, value], ensure_ascii=False)
    return _number(key, _digits(value))


def _number(key: str, digits: str) -> str:
    return json.dumps([key, {"#": digits}], ensure_ascii=False)


def _range(comparison: Comparison) -> Iterator[str]:
    digits = _digits(float(comparison.values[0]))
    for position, digit in enumerate(digits):
        at = _HEX.index(digit)
        others = _HEX[at + 1 :] if comparison.operator in ("gt", "gte") else _HEX[:at]
        yield from (_number(comparison.key, digits[:position] + other) for other in others)
    if comparison.operator in ("gte", "lte"):
        yield _number(comparison.key, digits)


def _digits(number: float) -> str:
    """Sixteen digits that sort as the numbers do. Minus zero is zero."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", float(number) + 0.0))
    return f"{(bits ^ _ALL) if bits & _SIGN else bits | _SIGN:016x}"
