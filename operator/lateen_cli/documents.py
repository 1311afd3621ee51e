# SPDX-License-Identifier: Apache-2.0
"""YAML files with the place of everything in them, so that a problem is shown where its author has to change something.

Used by `validate.py` and `render.py`. JSON is YAML, too; `yaml_values.py` says what the words of either mean.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lateen_cli import yaml_values
from lateen_cli.state import Unusable
from lateen_cli.yaml_values import FieldPath, Place, Unreadable

MAX_BYTES = 4 * 2**20
"""Of one file."""


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
        return [document for node in yaml_values.nodes(text) for document in _documents(file, node)]
    except Unreadable as error:
        raise Unusable(f"{file}:{error.place.line}:{error.place.column}: {error}.") from error
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
    content, places = yaml_values.value(node)
    if content is None:
        return
    if not isinstance(content, dict):
        line = node.start_mark.line + 1
        raise Unusable(f"{file}:{line}: this is not an object with apiVersion, kind, metadata and spec.")
    if not str(content.get("kind") or "").endswith("List") or not isinstance(content.get("items"), list):
        yield Document(file, content, places)
        return
    for number, item in enumerate(content["items"]):
        start = ("items", number)
        of_item = {path[2:]: place for path, place in places.items() if path[:2] == start}
        if isinstance(item, dict):
            yield Document(file, item, of_item)
