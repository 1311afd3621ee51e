# SPDX-License-Identifier: Apache-2.0
"""Finds the documents of an index's sources. Called by `sync.py`; each kind that is not on the disk has a module.

Every source is bounded, and a source that can't be read raises SourceFailure: it fails alone.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import structlog

from lateen_api.index_build import CONFIGMAP_FOLDER, DocumentFailure, SourceFailureReason
from lateen_api.rag_sources import (
    ConfigMapSource,
    GitSource,
    HttpSource,
    InlineSource,
    ObjectStoreSource,
    PvcSource,
    Source,
    SqlSource,
)
from lateen_serving.errors import LoadError
from lateen_serving.outbound import credentials
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.rag import files, git, objects, push, sql
from lateen_serving.rag.globs import Selection
from lateen_serving.rag.protocol import BuildFailure, Cursor, Document, Loaded, SourceFailure
from lateen_serving.rag.web import walk
from lateen_serving.rag.web.walk import Place
from lateen_serving.settings import ServingSettings

log = structlog.get_logger()

NOTHING = Cursor()
_REASONS: dict[str, SourceFailureReason] = {
    "SourceNotFound": "SourceNotFound",
    "SourceRefused": "SourceRefused",
    "SourceUnauthorized": "SourceUnauthorized",
}


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

    namespace: str = "default"
    """Of the index and its Secrets."""

    transport: httpx.AsyncBaseTransport | None = None
    """What connects to web servers; None: the network."""

    pushed: push.Pushed | None = None
    """What clients have pushed into the index; None: the index takes nothing."""

    @property
    def allowed(self) -> Allowed:
        """Private hosts that may be reached."""
        return Allowed.of(self.settings.source_hosts)

    async def credentials(self, source: Source) -> Credentials:
        """The keys of the source's Secret, none without; raises LoadError."""
        name = f"{self.namespace}/{source.secret}" if source.secret is not None else None
        return await asyncio.to_thread(credentials.read, name, self.settings.secrets)


async def load(source: Source, around: Surroundings, cursor: Cursor = NOTHING) -> Loaded:
    """The documents of one source, not read yet, of which `cursor` says what is indexed; raises SourceFailure."""
    try:
        return _distinct(await _load(source, around, cursor))
    except LoadError as error:
        raise SourceFailure(_REASONS.get(error.code, "SourceUnavailable"), error.message) from error
    except (SourceFailure, BuildFailure):
        raise
    except Exception as error:  # what nobody foresaw in one source must not end the build of the others
        # Where it happened, without the values: documents and addresses are not for logs.
        where = traceback.format_tb(error.__traceback__)
        log.error("unforeseen", source=source.name, error=type(error).__name__, where=where)
        raise SourceFailure("SourceUnavailable", f"it can't be read ({type(error).__name__})") from error


async def _load(source: Source, around: Surroundings, cursor: Cursor) -> Loaded:
    if source.inline is not None:
        return _inline(source.name, source.inline)
    if source.config_map is not None:
        return await asyncio.to_thread(_config_map, source.name, source.config_map, around)
    if source.pvc is not None:
        return await asyncio.to_thread(_pvc, source.name, source.pvc, around)
    if source.push is not None:
        return await push.load(source.name, around.pushed, cursor)
    return await _far(source, around, cursor)


async def _far(source: Source, around: Surroundings, cursor: Cursor) -> Loaded:
    if source.git is not None:
        return await _git(source, source.git, around, cursor)
    if source.http is not None:
        return await _http(source, source.http, around, cursor)
    if source.object_store is not None:
        return await _objects(source, source.object_store, around, cursor)
    if source.sql is not None:
        return await _sql(source, source.sql, around, cursor)
    raise SourceFailure("SourceNotFound", "the source names nothing to read")


async def _sql(source: Source, query: SqlSource, around: Surroundings, cursor: Cursor) -> Loaded:
    folder, roots = around.scratch / source.name, around.settings.file_roots
    place = sql.Place(folder, around.largest, roots, around.allowed, await around.credentials(source))
    return await sql.load(source.name, query, place, cursor)


async def _http(source: Source, http: HttpSource, around: Surroundings, cursor: Cursor) -> Loaded:
    place = Place(
        around.scratch / source.name,
        around.largest,
        around.allowed,
        await around.credentials(source),
        around.transport,
    )
    return await walk.load(source.name, http, place, cursor)


async def _objects(source: Source, store: ObjectStoreSource, around: Surroundings, cursor: Cursor) -> Loaded:
    secret = await around.credentials(source)
    place = objects.Place(around.scratch / source.name, around.largest, around.allowed, secret)
    return await objects.load(source.name, store, place, cursor)


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
    _expect_any(found)
    return _files(name, "/".join(filter(None, (f"pvc://{source.claim_name}", source.path.strip("/")))), found)


async def _git(source: Source, repository: GitSource, around: Surroundings, cursor: Cursor) -> Loaded:
    access = git.Access(around.settings.file_roots, around.allowed, await around.credentials(source))
    known = str(cursor.state.get("commit", "")) if cursor.whole else ""
    tree = await git.checkout(repository, around.scratch / source.name, access, around.largest, known)
    if tree.listing is None:
        return Loaded(commit=tree.commit, unchanged=True)
    _expect_any(tree.listing)
    loaded = _files(source.name, "", tree.listing)
    documents = [_blob(item, repository, tree.blobs, cursor) for item in loaded.documents]
    state = {"commit": tree.commit}
    return Loaded(documents, loaded.failures, tree.commit, position=tree.commit, state=state)


def _blob(item: Document, repository: GitSource, blobs: Mapping[str, str], cursor: Cursor) -> Document:
    where, blob = git.uri(repository, item.path), blobs[item.path]
    return replace(item, uri=where, version=blob, unchanged=cursor.knows(item.id, where, blob))


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


def _expect_any(found: files.Listing) -> None:
    """A volume that is not mounted, a wrong folder and a wrong pattern must not empty an index: raises SourceFailure."""
    if not found.files and not found.refused:
        message = "there is no file that path, include and exclude take; to remove what is indexed, remove the source"
        raise SourceFailure("SourceNotFound", message)


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
    return replace(loaded, documents=list(first.values()), failures=[*loaded.failures, *twice])
