# SPDX-License-Identifier: Apache-2.0
"""Finds the documents of an index's sources. Called by `sync.py`; reads what the request, files and git hold.

Every source is bounded, and a source that can't be read raises SourceFailure: it fails alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lateen_api.index_build import CONFIGMAP_FOLDER, DocumentFailure
from lateen_api.rag_sources import ConfigMapSource, GitSource, InlineSource, PvcSource, Source
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.rag import files, git
from lateen_serving.rag.globs import Selection
from lateen_serving.rag.protocol import Document, Loaded, SourceFailure
from lateen_serving.settings import ServingSettings


@dataclass(frozen=True)
class Surroundings:
    """Where sources find things."""

    settings: ServingSettings

    working_dir: Path
    """The job's, with the content of ConfigMaps."""

    scratch: Path
    """An empty folder of this build alone; removed after it."""

    largest: int
    """Largest document in bytes; of larger ones only the size matters."""


async def load(source: Source, around: Surroundings) -> Loaded:
    """The documents of one source, not read yet; raises SourceFailure."""
    if source.inline is not None:
        loaded = _inline(source.name, source.inline)
    elif source.config_map is not None:
        loaded = await asyncio.to_thread(_config_map, source.name, source.config_map, around)
    elif source.pvc is not None:
        loaded = await asyncio.to_thread(_pvc, source.name, source.pvc, around)
    elif source.git is not None:
        loaded = await _git(source.name, source.git, around)
    else:
        raise SourceFailure("SourceNotFound", "the source names nothing to read")
    return _distinct(loaded)


def _inline(name: str, source: InlineSource) -> Loaded:
    documents = []
    for item in source.documents:
        data = item.text.encode()
        documents.append(
            _document(name, item.name, f"inline:{name}/{item.name}", len(data), partial(_given, data))
        )
    return Loaded(documents)


async def _given(data: bytes) -> bytes:
    return data


def _config_map(name: str, source: ConfigMapSource, around: Surroundings) -> Loaded:
    folder = around.working_dir / CONFIGMAP_FOLDER / name
    if not folder.is_dir():
        raise SourceFailure("SourceNotFound", f"ConfigMap {source.name} did not come with the build")
    found = files.listing(folder, lambda path: "/" not in path)
    return _files(name, f"configmap:{source.name}", found)


def _pvc(name: str, source: PvcSource, around: Surroundings) -> Loaded:
    claim = around.settings.volumes / source.claim_name
    root = claim / source.path
    if not root.is_dir():
        where = (
            f"folder {source.path} of claim {source.claim_name}"
            if source.path
            else f"claim {source.claim_name}"
        )
        raise SourceFailure("SourceNotFound", f"{where} is not mounted on the Ray nodes")
    found = files.listing(root, Selection(source.include, source.exclude).takes, boundary=claim)
    return _files(name, "/".join(filter(None, (f"pvc://{source.claim_name}", source.path.strip("/")))), found)


async def _git(name: str, source: GitSource, around: Surroundings) -> Loaded:
    tree = await git.checkout(
        source,
        around.scratch / name,
        roots=around.settings.file_roots,
        allowed=Allowed.of(around.settings.source_hosts),
        largest=around.largest,
    )
    loaded = _files(name, "", tree.listing)
    documents = [replace(item, uri=git.uri(source, item.path)) for item in loaded.documents]
    return Loaded(documents, loaded.failures, tree.commit)


def _files(name: str, prefix: str, found: files.Listing) -> Loaded:
    documents = [
        _document(name, item.path, f"{prefix}/{item.path}", item.size, partial(files.read, item))
        for item in found.files
    ]
    failures = [
        DocumentFailure(document=f"{name}/{path}", reason="Unreadable", message=message)
        for path, message in found.refused.items()
    ]
    return Loaded(documents, failures)


def _document(source: str, path: str, uri: str, size: int, read: Callable[[], Awaitable[bytes]]) -> Document:
    return Document(f"{source}/{path}", source, path, uri, size, read)


def _distinct(loaded: Loaded) -> Loaded:
    """Of documents with one id the first; the others are failures."""
    first: dict[str, Document] = {}
    twice = []
    for document in loaded.documents:
        if first.setdefault(document.id, document) is not document:
            message = "another document of the source has the same name"
            twice.append(DocumentFailure(document=document.id, reason="Unreadable", message=message))
    return Loaded(list(first.values()), [*loaded.failures, *twice], loaded.commit)
