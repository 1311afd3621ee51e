# SPDX-License-Identifier: Apache-2.0
"""Reads the Secret of a source from the files that Kubernetes mounts on the node.

Values never appear in errors, logs or `repr`; they go to the source's own client and nowhere else.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lateen_serving.errors import LoadError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MOST_KEYS = 64
_LARGEST_BYTES = 64 * 2**10
_LOOKS = 5
"""Times that a Secret which changes while it is read is looked at."""


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
    for attempt in range(1, _LOOKS + 1):
        try:
            return Credentials(name, _values(place))
        except (OSError, UnicodeDecodeError) as error:
            if not place.is_dir():
                break
            if attempt == _LOOKS or not isinstance(error, FileNotFoundError):
                raise LoadError(
                    f"Secret {name} can't be read from {place}: {type(error).__name__}",
                    code="SourceUnauthorized",
                ) from None
    raise LoadError(
        f"Secret {name} is not mounted on this Ray node: mount its keys as files below {place}",
        code="SourceUnauthorized",
    )


def _values(place: Path) -> dict[str, str]:
    """The keys as they were at one moment; raises FileNotFoundError when the Secret changes meanwhile.

    Kubernetes keeps the files in a folder that `..data` links to, and changes all keys by changing that link: so it is
    followed once. Files are removed only after the link has changed.
    """
    data = place / "..data"
    target = data.readlink() if data.is_symlink() else None
    folder = place if target is None else place / target
    keys = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if target is None and any(path.is_symlink() and not path.exists() for path in keys):
        raise FileNotFoundError(data)
    values = {path.name: _value(path) for path in [key for key in keys if key.is_file()][:_MOST_KEYS]}
    if target is not None and data.readlink() != target:
        raise FileNotFoundError(folder)
    return values


def _value(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES).decode().strip()


def authorization(credentials: Credentials) -> dict[str, str]:
    """The header for a Secret's `token`, or its `username` and `password`; empty without."""
    if token := credentials.get("token"):
        return {"Authorization": f"Bearer {token}"}
    return basic(credentials)


def basic(credentials: Credentials) -> dict[str, str]:
    """The header for a Secret's `username` and `password`; empty without."""
    username, password = credentials.get("username"), credentials.get("password")
    if username is None or password is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}
