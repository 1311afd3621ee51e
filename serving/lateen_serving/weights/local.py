# SPDX-License-Identifier: Apache-2.0
"""Weights that are on the node: `pvc://` and `file://`. Nothing leads out of the volume. Called by `source.py`."""

from collections.abc import Iterator
from pathlib import Path

from lateen_serving.errors import LoadError
from lateen_serving.outbound.wording import refused
from lateen_serving.weights.selection import Kind, choose
from lateen_serving.weights.uris import FolderSource


def locate(source: FolderSource, kind: Kind) -> Path:
    """The real folder or GGUF file of `source`, checked to hold weights and to stay below its root.

    Raises LoadError SourceNotFound or SourceRefused.
    """
    root = source.root.resolve()
    if source.kind == "volume" and not root.is_dir():
        raise LoadError(f"volume claim {source.root.name} is not mounted on this node", code="SourceNotFound")
    found = source.folder.resolve()
    if not found.is_relative_to(root):
        raise refused(f"{source.folder} leads outside {source.root} through a symbolic link")
    if found.is_file() and found.suffix == ".gguf":
        choose([found.name], kind, str(source.folder))
        return found
    if not found.is_dir():
        raise LoadError(f"there is no folder {source.folder}", code="SourceNotFound")
    for path in files(found):
        if not path.resolve().is_relative_to(root):
            raise refused(f"{path} leads outside {source.root} through a symbolic link")
    choose(names(found), kind, str(source.folder))
    return found


def files(folder: Path) -> Iterator[Path]:
    """The regular files below `folder`, and links to such files."""
    return (path for path in folder.rglob("*") if path.is_file())


def names(folder: Path) -> list[str]:
    """Their names relative to `folder`, with `/`."""
    return sorted(path.relative_to(folder).as_posix() for path in files(folder))
