# SPDX-License-Identifier: Apache-2.0
"""Reads the Secret of a source from the files that Kubernetes mounts on the node. Called by `source.py`.

Values never appear in errors, logs or `repr`; they go to the source's own client and nowhere else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lateen_serving.errors import LoadError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MOST_KEYS = 64
_LARGEST_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Credentials:
    """The keys of one Secret; empty where the source names none."""

    name: str = ""
    """`NAMESPACE/NAME`, for messages."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> str | None:
        """The value of `key`, if the Secret has it."""
        return self.values.get(key)

    @property
    def hint(self) -> str:
        """What somebody whose access was refused has to look at."""
        return f"check Secret {self.name}" if self.name else "name a Secret in secretRef"


NONE = Credentials()


def read(name: str | None, folder: Path) -> Credentials:
    """The Secret `NAMESPACE/NAME` from `folder/NAMESPACE/NAME/KEY`; no blocking beyond small files.

    Raises LoadError SourceUnauthorized when it is not mounted or can't be read.
    """
    if name is None:
        return NONE
    parts = name.split("/")
    if len(parts) != 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise LoadError(f"{name!r} is not the NAMESPACE/NAME of a Secret", code="SourceUnauthorized")
    place = folder.joinpath(*parts)
    if not place.is_dir():
        raise LoadError(
            f"Secret {name} is not mounted on this Ray node: mount its keys as files below {place}",
            code="SourceUnauthorized",
        )
    try:
        # Kubernetes keeps the real files in a folder `..data` and links to them.
        keys = sorted(path for path in place.iterdir() if not path.name.startswith(".") and path.is_file())
        values = {path.name: _value(path) for path in keys[:_MOST_KEYS]}
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"Secret {name} can't be read from {place}: {type(error).__name__}", code="SourceUnauthorized"
        ) from None
    return Credentials(name, values)


def _value(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES).decode().strip()
