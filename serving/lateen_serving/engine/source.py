# SPDX-License-Identifier: Apache-2.0
"""Finds a model's weights: turns `hf://`, `pvc://` and `file://` into a folder that is safe to load.

Called by `engine/app.py` before an engine is made. Every failure is a LoadError whose code says who has to act:
SourceNotFound (the spec's author), SourceRefused (a rule of this service), SourceUnavailable (wait).
"""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lateen_serving.errors import LoadError
from lateen_serving.settings import ServingSettings

_HUB_NAME = re.compile(
    r"[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*(@[A-Za-z0-9][-A-Za-z0-9._/]*)?"
)
_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"})
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
_HUB_SKIPPED = ("onnx/*", "openvino/*", "original/*", "coreml/*")
_HUB_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class HubSource:
    """A repository of a model hub."""

    repository: str
    revision: str | None
    """Branch, tag or commit; None: the default branch."""


@dataclass(frozen=True)
class FolderSource:
    """A folder of this node."""

    kind: Literal["volume", "file"]
    root: Path
    """What the folder must stay below, symbolic links followed."""
    folder: Path


async def resolve(uri: str, settings: ServingSettings) -> Path:
    """The folder that holds the weights of `uri`, downloaded first if need be; raises LoadError."""
    source = parse(uri, settings)
    if isinstance(source, FolderSource):
        return await asyncio.to_thread(locate, source)
    return await asyncio.to_thread(_download, source, settings.model_cache / "hub")


def parse(uri: str, settings: ServingSettings) -> HubSource | FolderSource:
    """What `uri` means, without looking at the disk; raises LoadError."""
    scheme, separator, rest = uri.partition("://")
    if not separator or any(ord(letter) < 32 for letter in uri):
        raise _refused(f"{uri!r} is not a uri such as hf://org/name, pvc://claim/path or file:///path")
    if scheme == "hf":
        return _parse_hub(uri, rest)
    if ".." in rest.split("/"):
        raise _refused(f"{uri} contains '..'; name the folder itself")
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        if not _CLAIM.fullmatch(claim):
            raise _refused(f"{uri} names no claim; write pvc://claim/path")
        root = settings.volumes / claim
        return FolderSource("volume", root, root / path.lstrip("/"))
    if scheme == "file":
        return _parse_file(uri, rest, settings.file_roots)
    raise _refused(f"{uri} has an unknown scheme; known are hf://, pvc:// and file://")


def _parse_hub(uri: str, rest: str) -> HubSource:
    if not _HUB_NAME.fullmatch(rest) or ".." in rest:
        raise _refused(f"{uri} is not hf://org/name or hf://org/name@revision")
    repository, _, revision = rest.partition("@")
    return HubSource(repository, revision or None)


def _parse_file(uri: str, rest: str, roots: Iterable[Path]) -> FolderSource:
    folder = Path(rest)
    if not folder.is_absolute():
        raise _refused(f"{uri} is not absolute; write file:///path")
    for root in roots:
        if folder.is_relative_to(root):
            return FolderSource("file", root, folder)
    raise _refused(f"{uri} is outside the folders the administrator allows (LATEEN_FILE_ROOTS)")


def locate(source: FolderSource) -> Path:
    """The real folder of `source`, checked to hold weights and to stay below its root; raises LoadError."""
    root = source.root.resolve()
    if source.kind == "volume" and not root.is_dir():
        raise LoadError(f"volume claim {source.root.name} is not mounted on this node", code="SourceNotFound")
    folder = source.folder.resolve()
    if not folder.is_relative_to(root):
        raise _refused(f"{source.folder} leads outside {source.root} through a symbolic link")
    if not folder.is_dir():
        raise LoadError(f"there is no folder {source.folder}", code="SourceNotFound")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in paths:
        if not path.resolve().is_relative_to(root):
            raise _refused(f"{path} leads outside {source.root} through a symbolic link")
    check_files({path.relative_to(folder).as_posix() for path in paths}, str(source.folder))
    return folder


def check_files(names: Iterable[str], where: str) -> None:
    """Raise LoadError unless the relative file names are those of a model folder with safetensors weights."""
    files = set(names)
    if "config.json" not in files:
        raise LoadError(f"{where} has no config.json: it is not a model folder", code="SourceNotFound")
    if any(name.endswith(".safetensors") for name in files):
        return
    pickles = sorted(name for name in files if Path(name).suffix in _PICKLES)
    if pickles:
        raise _refused(
            f"{where} has only weights that could run code when loaded ({pickles[0]}); convert them to safetensors"
        )
    raise LoadError(f"{where} has no safetensors weights", code="SourceNotFound")


def _download(source: HubSource, cache: Path) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    name = f"hf://{source.repository}" + (f"@{source.revision}" if source.revision else "")
    try:
        folder = Path(
            snapshot_download(
                source.repository,
                revision=source.revision,
                cache_dir=cache,
                allow_patterns=list(_HUB_FILES),
                ignore_patterns=list(_HUB_SKIPPED),
                etag_timeout=_HUB_PATIENCE_SECONDS,
            )
        )
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if "config.json" in files and not any(file.endswith(".safetensors") for file in files):
            files |= set(HfApi().list_repo_files(source.repository, revision=source.revision))
    except Exception as error:
        raise hub_failure(error, name) from error
    check_files(files, name)
    return folder


def hub_failure(error: Exception, name: str) -> LoadError:
    """The LoadError for what the hub's client raised about the repository `name`."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return _refused(f"{name} is gated: accept its terms and set HF_TOKEN for the Ray nodes")
    if isinstance(error, hub.RepositoryNotFoundError):
        return LoadError(
            f"{name} does not exist, or is private and HF_TOKEN is missing", code="SourceNotFound"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return LoadError(f"{name}: there is no such revision", code="SourceNotFound")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 404:
        return LoadError(f"{name} does not exist", code="SourceNotFound")
    if status in {401, 403}:
        return _refused(f"{name}: the hub refuses access ({status}); check HF_TOKEN of the Ray nodes")
    kind = type(error).__name__
    return LoadError(
        f"{name} can't be downloaded now ({kind}); is the hub reachable?", code="SourceUnavailable"
    )


def _refused(message: str) -> LoadError:
    return LoadError(message, code="SourceRefused")
