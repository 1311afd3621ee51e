# SPDX-License-Identifier: Apache-2.0
"""What kubectl makes of YAML: not all of YAML, and not what PyYAML's own loaders make of it.

`2026-01-45` stays a string, `yes`, `on` and `y` are true, `1.0` is the integer 1, keys are strings: what reaches the API
server is JSON. Used by `documents.py`. Pure.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

MAX_DEPTH = 100
"""Levels of lists and objects."""

MAX_PARTS = 200_000
"""Values of one document, those behind aliases counted wherever they are used."""

FieldPath: TypeAlias = tuple[str | int, ...]

_PLAIN = "!plain"
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_ENDLESS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBER = re.compile(r"[-+0-9.].*", re.DOTALL)
_INTEGER = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}


@dataclass(frozen=True)
class Place:
    """Where something begins, counted from 1."""

    line: int
    column: int


class Unreadable(ValueError):
    """kubectl would not read it, or we don't.

    Attributes:
        place: Where it stands.

    """

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


class _Loader(yaml.SafeLoader):
    """Leaves open what an unquoted word without a tag is."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, (False, True)) or ""  # type: ignore[no-untyped-call]


def nodes(text: str) -> Iterator[yaml.Node]:
    """The documents of a text; raises yaml.YAMLError, or RecursionError where they are nested too deep."""
    return (node for node in yaml.compose_all(text, Loader=_Loader) if node is not None)


def value(node: yaml.Node) -> tuple[Any, dict[FieldPath, Place]]:
    """The document as JSON has it, and where everything in it stands; raises Unreadable."""
    reader = _Reader()
    return reader.read(node, ()), reader.places


def plain(text: str) -> Any:
    """What an unquoted word is; raises ValueError for infinite numbers, which JSON has not."""
    if text in _WORDS:
        return _WORDS[text]
    if _ENDLESS.fullmatch(text):
        raise ValueError(f"{text} is no number of JSON")
    return _number(text) if _NUMBER.fullmatch(text) else text


def _number(text: str) -> int | float | str:
    digits = text if text.startswith(".") else text.replace("_", "")
    found: float | None = None
    if match := _INTEGER.fullmatch(digits):
        whole = int(match[2], 8 if re.fullmatch("0[0-7]+", match[2]) else 0)
        signed = -whole if match[1] == "-" else whole
        if -(2**63) <= signed < 2**63:
            return signed
        found = float(signed) if 0 <= signed < 2**64 else None
    if found is None and _DECIMAL.fullmatch(digits):
        found = float(digits)
    if found is None or math.isinf(found):
        return text
    return int(found) if found.is_integer() and -(2**63) <= found < 2**63 else found


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


class _Reader:
    """Reads one document."""

    def __init__(self) -> None:
        self.places: dict[FieldPath, Place] = {}
        self._parts = 0

    def read(self, node: yaml.Node, path: FieldPath) -> Any:
        self._parts += 1
        if len(path) > MAX_DEPTH or self._parts > MAX_PARTS:
            raise Unreadable("it is nested too deep, or its aliases stand for too much", _place(node))
        self.places.setdefault(path, _place(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, number)) for number, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        named: set[str] = set()
        for key, item in node.value:
            if _is_merge(key):
                found |= self._merged(item, path)
                continue
            name = _key(key)
            if name in named:
                raise Unreadable(f"key {name!r} is given twice", _place(key))
            named.add(name)
            self.places[*path, name] = _place(key)
            found[name] = self.read(item, (*path, name))
        return found

    def _merged(self, node: yaml.Node, path: FieldPath) -> dict[str, Any]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for item in items:
            if not isinstance(item, yaml.MappingNode):
                raise Unreadable("<< takes an object, or a list of objects", _place(item))
            for name, more in self.read(item, path).items():
                found.setdefault(name, more)
        return found


def _is_merge(key: yaml.Node) -> bool:
    return key.tag == _PLAIN and key.value == _MERGE


def _key(node: yaml.Node) -> str:
    key = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if key is None:
        raise Unreadable("a key is a word, not a list, an object or nothing", _place(node))
    return key if isinstance(key, str) else json.dumps(key)


def _scalar(node: yaml.Node) -> Any:
    tag = node.tag.removeprefix(_TAG)
    try:
        if tag == "binary":
            return base64.b64decode(node.value, validate=True).decode()
        found = plain(node.value) if tag == _PLAIN or tag in _TYPES else _paired(node.value)
    except (binascii.Error, ValueError) as error:
        raise Unreadable(str(error), _place(node)) from error
    if tag in _TYPES and (not isinstance(found, _TYPES[tag]) or (isinstance(found, bool) and tag != "bool")):
        raise Unreadable(f"{node.value!r} is no !!{tag}", _place(node))
    return found


def _paired(text: str) -> str:
    r"""A text whose `\ud83d\ude00`, as JSON escapes what needs two, is one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
