# SPDX-License-Identifier: Apache-2.0
"""YAML files with the place of everything in them, so that a problem is shown where its author has to change something.

Used by `validate.py` and `render.py`. JSON is YAML, too.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lateen_cli.state import Unusable

MAX_BYTES = 4 * 2**20
"""Of one file."""

_MAX_DEPTH = 100

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where something begins, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """One object of a file."""

    file: str
    content: Mapping[str, Any]
    places: Mapping[FieldPath, Place]

    @property
    def kind(self) -> str:
        """Its kind; empty when it says none."""
        return str(self.content.get("kind") or "")

    @property
    def name(self) -> str:
        """Its name; empty when it says none."""
        metadata = self.content.get("metadata")
        return str(metadata.get("name") or "") if isinstance(metadata, Mapping) else ""

    def place(self, path: Sequence[str | int]) -> Place:
        """Where the thing at `path` begins, or what it would be in where it is missing.

        Parts that are no field of the file, such as pydantic's words for the alternatives of a union, are passed over.
        """
        known: FieldPath = ()
        for part in path:
            if (*known, part) in self.places:
                known = (*known, part)
        return self.places[known]


def read(name: str) -> list[Document]:
    """The objects of a file, `-` being standard input; Unusable where it can't be read or is no YAML."""
    text = _text(name)
    file = "<stdin>" if name == "-" else name
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise Unusable(f"{file}: YAML aliases (*name) are not read; write the value out.")
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
        return [document for node in nodes for document in _documents(file, node)]
    except RecursionError as error:
        raise Unusable(f"{file}: it is nested too deep.") from error
    except yaml.YAMLError as error:
        raise Unusable(f"{file}: it is not YAML: {' '.join(str(error).split())}") from error


def _text(name: str) -> str:
    try:
        content = sys.stdin.buffer.read(MAX_BYTES + 1) if name == "-" else _bytes(Path(name))
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{name} can't be read: {error}") from error
    if len(content) > MAX_BYTES:
        raise Unusable(f"{name} is larger than {MAX_BYTES // 2**20} MiB.")
    return text


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _documents(file: str, node: yaml.Node) -> Iterator[Document]:
    content = yaml.SafeLoader("").construct_document(node)
    if not isinstance(content, dict):
        line = node.start_mark.line + 1
        raise Unusable(f"{file}:{line}: this is not an object with apiVersion, kind, metadata and spec.")
    places = dict(_places(node, ()))
    if not str(content.get("kind") or "").endswith("List") or not isinstance(content.get("items"), list):
        yield Document(file, content, places)
        return
    for number, item in enumerate(content["items"]):
        start = ("items", number)
        of_item = {path[2:]: place for path, place in places.items() if path[:2] == start}
        if isinstance(item, dict):
            yield Document(file, item, of_item)


def _places(node: yaml.Node, path: FieldPath) -> Iterator[tuple[FieldPath, Place]]:
    if len(path) > _MAX_DEPTH:
        raise RecursionError
    yield path, Place(node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _places(item, (*path, number))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            yield from _places(value, below)
            yield below, Place(key.start_mark.line + 1, key.start_mark.column + 1)
