# SPDX-License-Identifier: Apache-2.0
"""Secrets as files for the Ray nodes of the same machine: `FOLDER/NAMESPACE/NAME/KEY`; the only files the operator writes.

Used by `reconcile/convergence.py` where `secrets_folder` is set. Values are never logged.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import structlog

SecretContents = Mapping[tuple[str, str], Mapping[str, bytes]]
"""Content by key of each Secret, by namespace and name."""

log = structlog.get_logger(__name__)


class SecretsMirror:
    """Keeps a folder like the Secrets that are referred to; only its owner can read it.

    Args:
        folder: Belongs to the mirror alone: whatever else is in it is removed.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def sync(self, secrets: SecretContents) -> None:
        """Write what is new or changed, remove what is not in `secrets`; raises OSError."""
        await asyncio.to_thread(self._sync, secrets)

    def _sync(self, secrets: SecretContents) -> None:
        _folder(self._folder)
        for (namespace, name), content in secrets.items():
            _folder(self._folder / namespace)
            _fill(self._folder / namespace / name, content)
        namespaces = {namespace for namespace, _ in secrets}
        for left in _unknown(self._folder, namespaces):
            _remove(left)
        for namespace in namespaces:
            for left in _unknown(
                self._folder / namespace, {name for owner, name in secrets if owner == namespace}
            ):
                _remove(left)
                log.info("a secret is no longer mirrored", namespace=namespace, name=left.name)


def _fill(folder: Path, content: Mapping[str, bytes]) -> None:
    _folder(folder)
    for key, value in content.items():
        path = folder / key
        if not path.is_file() or path.read_bytes() != value:
            _write(path, value)
    for left in _unknown(folder, set(content)):
        _remove(left)


def _write(path: Path, value: bytes) -> None:
    """Replace a file in one step; at no moment may others read it."""
    descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)  # mode 0600; readers skip dots
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
    Path(name).replace(path)


def _folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o777 != 0o700:
        path.chmod(0o700)


def _unknown(folder: Path, known: set[str]) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name not in known]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
