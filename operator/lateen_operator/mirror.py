# SPDX-License-Identifier: Apache-2.0
"""Secrets as files for the Ray nodes of the same machine, laid out as the kubelet does; the only files the operator writes.

    FOLDER/NAMESPACE/NAME/..RANDOM/KEY   the content, written whole before anybody sees it
                          ..data         a link to it: one rename replaces all keys together
                          KEY            a link to ..data/KEY

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

_DATA = "..data"

log = structlog.get_logger(__name__)


class SecretsMirror:
    """Keeps a folder like the Secrets that are referred to; only its owner can read it.

    Args:
        folder: Belongs to the mirror alone: whatever else is in it is removed.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def sync(self, secrets: SecretContents) -> None:
        """Write what is new or changed, remove what is not in `secrets`; raises OSError.

        A reader that takes one look at `..data` sees a Secret's old keys or its new ones, never some of each.
        """
        await asyncio.to_thread(self._sync, secrets)

    def _sync(self, secrets: SecretContents) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(self._folder)
        for (namespace, name), content in secrets.items():
            _folder(self._folder / namespace)
            _fill(self._folder / namespace / name, content)
        namespaces = {namespace for namespace, _ in secrets}
        for left in _unknown(self._folder, namespaces):
            for secret in left.iterdir() if left.is_dir() and not left.is_symlink() else ():
                _remove(secret)
            _remove(left)
        for namespace in namespaces:
            for left in _unknown(
                self._folder / namespace, {name for owner, name in secrets if owner == namespace}
            ):
                _remove(left)
                log.info("a secret is no longer mirrored", namespace=namespace, name=left.name)


def _fill(folder: Path, content: Mapping[str, bytes]) -> None:
    """Make `folder` hold `content` and nothing else; killed at any moment, the next call ends it."""
    _folder(folder)
    data = folder / _DATA
    if not _holds(data, content):
        _link(data, _written(folder, content).name)
    for key in content:
        if not _is_link(folder / key, f"{_DATA}/{key}"):
            _link(folder / key, f"{_DATA}/{key}")
    for left in _unknown(folder, {_DATA, data.readlink().name, *content}):
        _remove(left)


def _holds(data: Path, content: Mapping[str, bytes]) -> bool:
    """Whether the link `..data` leads to a folder with exactly `content`."""
    if not data.is_symlink() or not data.is_dir():
        return False
    files = {path.name: path for path in data.iterdir()}
    return files.keys() == content.keys() and all(
        path.is_file() and path.read_bytes() == content[name] for name, path in files.items()
    )


def _written(folder: Path, content: Mapping[str, bytes]) -> Path:
    """A new folder with `content` that nobody refers to yet; at no moment may others read it."""
    made = Path(tempfile.mkdtemp(prefix="..", dir=folder))  # mode 0700
    for key, value in content.items():
        descriptor = os.open(made / key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
    return made


def _link(path: Path, target: str) -> None:
    """Make `path` a link to `target` in one step, whatever it was."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    fresh = path.with_name("..link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)


def _is_link(path: Path, target: str) -> bool:
    return path.is_symlink() and str(path.readlink()) == target


def _folder(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.mkdir(mode=0o700, exist_ok=True)
    _close(path)


def _close(folder: Path) -> None:
    """Let nobody else in, whoever made the folder."""
    if folder.stat().st_mode & 0o777 != 0o700:
        folder.chmod(0o700)


def _unknown(folder: Path, known: set[str]) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name not in known]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        (path / _DATA).unlink(missing_ok=True)  # a Secret disappears whole, too
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
