# SPDX-License-Identifier: Apache-2.0
"""What the uri of a source means, without looking at the disk or the network. Called by `source.py`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lateen_serving.outbound import buckets
from lateen_serving.outbound.wording import refused, shown
from lateen_serving.settings import ServingSettings

_HUB = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*(@[A-Za-z0-9][-A-Za-z0-9._/]*)?")
_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][-a-z0-9._]*")
_WEB = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?/.+")
_REGISTRY = re.compile(
    r"(?P<host>[a-z0-9.-]+(:[0-9]{1,5})?)/(?P<name>[a-z0-9]+([._/-]+[a-z0-9]+)*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SCHEMES = "hf://, s3://, gs://, az://, https://, oci://, pvc:// and file://"


@dataclass(frozen=True)
class HubSource:
    """A repository of a model hub."""

    repository: str
    revision: str | None
    """Branch, tag or commit; None: the default branch."""

    @property
    def place(self) -> str:
        """Where its files are kept, whatever the revision."""
        return f"hf://{self.repository}"

    @property
    def fixed(self) -> bool:
        """Whether it always means the same files."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True)
class BucketSource:
    """A folder of an object store, or one GGUF object."""

    store: buckets.Kind
    bucket: str
    path: str
    """Without `/` at either end."""

    fixed: bool = False

    @property
    def place(self) -> str:
        """Where its files are kept."""
        return f"{self.store}://{self.bucket}/{self.path}"


@dataclass(frozen=True)
class WebSource:
    """An archive, a GGUF file or the list `files.txt` of a folder."""

    url: str
    kind: Literal["archive", "file", "list"]

    fixed: bool = False

    @property
    def place(self) -> str:
        """Where its files are kept."""
        return self.url


@dataclass(frozen=True)
class RegistrySource:
    """A model artifact of an OCI registry."""

    host: str
    """With the port, if one is named."""

    name: str
    reference: str
    """A tag, or `sha256:…`."""

    @property
    def place(self) -> str:
        """Where its files are kept, whatever the tag."""
        return f"oci://{self.host}/{self.name}"

    @property
    def fixed(self) -> bool:
        """Whether it always means the same files."""
        return self.reference.startswith("sha256:")


@dataclass(frozen=True)
class FolderSource:
    """A folder, or a GGUF file, of this node."""

    kind: Literal["volume", "file"]
    root: Path
    """What the folder must stay below, symbolic links followed."""
    folder: Path


RemoteSource = HubSource | BucketSource | WebSource | RegistrySource


def parse(uri: str, settings: ServingSettings) -> RemoteSource | FolderSource:
    """What `uri` means; raises LoadError SourceRefused."""
    scheme, separator, rest = uri.partition("://")
    if not separator or any(ord(letter) < 32 for letter in uri):
        raise refused(f"{uri!r} is not a uri such as hf://org/name, pvc://claim/path or file:///path")
    if ".." in rest.split("?")[0].split("/"):
        raise refused(f"{shown(uri)} contains '..'; name the folder itself")
    match scheme:
        case "hf":
            return _hub(uri, rest)
        case "s3" | "gs" | "az":
            return _bucket(uri, scheme, rest)
        case "https":
            return _web(uri, rest)
        case "oci":
            return _registry(uri, rest)
        case "pvc":
            return _volume(uri, rest, settings.volumes)
        case "file":
            return _file(uri, rest, settings.file_roots)
    raise refused(f"{shown(uri)} has an unknown scheme; known are {_SCHEMES}")


def _hub(uri: str, rest: str) -> HubSource:
    if not _HUB.fullmatch(rest) or ".." in rest:
        raise refused(f"{uri} is not hf://org/name or hf://org/name@revision")
    repository, _, revision = rest.partition("@")
    return HubSource(repository, revision or None)


def _bucket(uri: str, store: buckets.Kind, rest: str) -> BucketSource:
    bucket, _, path = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or not path.strip("/"):
        raise refused(f"{uri} is not {store}://bucket/path/to/the/folder")
    return BucketSource(store, bucket, path.strip("/"))


def _web(uri: str, rest: str) -> WebSource:
    if not _WEB.fullmatch(rest):
        raise refused(f"{shown(uri)} is not https://host/path without user name and password")
    name = urlsplit(uri).path.rpartition("/")[2]
    if name.endswith((".tar.gz", ".tgz", ".tar", ".zip")):
        return WebSource(uri, "archive")
    if name.endswith(".gguf"):
        return WebSource(uri, "file")
    if name == "files.txt":
        return WebSource(uri, "list")
    raise refused(
        f"{shown(uri)} is neither an archive (.tar.gz, .tgz, .tar, .zip) nor a folder's files.txt nor a .gguf file"
    )


def _registry(uri: str, rest: str) -> RegistrySource:
    found = _REGISTRY.fullmatch(rest)
    if found is None:
        raise refused(
            f"{uri} is not oci://registry/repository:tag or oci://registry/repository@sha256:digest"
        )
    return RegistrySource(found["host"], found["name"], found["digest"] or found["tag"] or "latest")


def _volume(uri: str, rest: str, volumes: Path) -> FolderSource:
    claim, _, path = rest.partition("/")
    if not _CLAIM.fullmatch(claim):
        raise refused(f"{uri} names no claim; write pvc://claim/path")
    root = volumes / claim
    return FolderSource("volume", root, root / path.lstrip("/"))


def _file(uri: str, rest: str, roots: Iterable[Path]) -> FolderSource:
    folder = Path(rest)
    if not folder.is_absolute():
        raise refused(f"{uri} is not absolute; write file:///path")
    for root in roots:
        if folder.is_relative_to(root):
            return FolderSource("file", root, folder)
    raise refused(f"{uri} is outside the folders the administrator allows (LATEEN_FILE_ROOTS)")
