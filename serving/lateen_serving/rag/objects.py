# SPDX-License-Identifier: Apache-2.0
"""Finds the documents of an `objectStore` source and fetches those that have changed. Called by `sources.py`."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions

from lateen_api.rag_sources import ObjectStoreSource
from lateen_serving.outbound import buckets, retrying
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.buckets import Bucket, Kind, Store
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.rag import files, sidecars
from lateen_serving.rag.bounded import each
from lateen_serving.rag.globs import Selection
from lateen_serving.rag.protocol import Cursor, Document, Loaded, SourceFailure

_AT_ONCE = 8
_CHUNK = 2**20
_KINDS: Mapping[str, Kind] = {"s3": "s3", "gs": "gs", "az": "az"}


@dataclass(frozen=True)
class Place:
    """Where objects go and how they may be reached."""

    folder: Path
    """Objects are written here; created."""

    largest: int
    """Bytes; larger objects are listed but not fetched."""

    allowed: Allowed
    credentials: Credentials


async def load(name: str, source: ObjectStoreSource, place: Place, cursor: Cursor) -> Loaded:
    """The objects of the source called `name`; raises SourceFailure and LoadError."""
    scheme, _, rest = source.uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    where = source.uri.rstrip("/")
    found = Bucket(_KINDS[scheme], bucket, place.credentials, place.allowed, where)
    walk = _Walk(name, found, prefix.strip("/"), Selection(source.include, source.exclude), place, cursor)
    await asyncio.to_thread(place.folder.mkdir, parents=True)
    async with found.open() as store:
        return await walk.run(store)


@dataclass(frozen=True)
class _Walk:
    name: str
    bucket: Bucket
    prefix: str
    selection: Selection
    place: Place
    cursor: Cursor

    async def run(self, store: Store) -> Loaded:
        items = await retrying.insist(lambda: self._listed(store))
        documents: dict[str, Document] = {}

        async def take(path: str) -> None:
            alone = not sidecars.belongs(path, items)
            taken = await retrying.insist(lambda: self._taken(store, path, items[path], alone=alone))
            if taken is not None:
                documents[path] = taken

        await each(sorted(items), take, _AT_ONCE)
        latest = max((_moment(item) for item in items.values()), default="")
        return Loaded([documents[path] for path in sorted(documents)], position=latest)

    async def _listed(self, store: Store) -> dict[str, Any]:
        """The wanted objects by their path below the prefix; raises LoadError and SourceFailure."""
        found: dict[str, Any] = {}
        seen, size = 0, 0
        try:
            async for page in store.list(prefix=f"{self.prefix}/" if self.prefix else None):
                for item in page:
                    seen += 1
                    path = item["path"].removeprefix(f"{self.prefix}/" if self.prefix else "")
                    if path and path.isprintable() and not path.endswith("/") and self.selection.takes(path):
                        found[path] = item
                        size += item["size"]
                _check(seen, len(found), size)
        except exceptions.BaseError as error:
            raise self.bucket.failure(error) from None
        if not seen:
            raise SourceFailure("SourceNotFound", f"{self.bucket.where} holds no objects")
        return found

    async def _taken(self, store: Store, path: str, item: Any, *, alone: bool) -> Document | None:
        """The object as a document, fetched if need be; None when it is gone by now. Raises LoadError.

        `alone`: it has no sidecar file and is none.
        """
        key, uri, version = f"{self.name}/{path}", f"{self.bucket.where}/{path}", buckets.version(item)
        file = self.place.folder / hashlib.sha256(path.encode()).hexdigest()
        known = alone and self.cursor.knows(key, uri, version)
        size = item["size"]
        if not known and size <= self.place.largest:
            fetched = await self._fetched(store, item["path"], file)
            if fetched is None:
                return None
            size, version = fetched
        read = partial(files.read, files.File(path, size, str(file)))
        return Document(
            key, self.name, path, uri, size, read, version=version, unchanged=known, updated_at=_moment(item)
        )

    async def _fetched(self, store: Store, path: str, file: Path) -> tuple[int, str] | None:
        """Size and version of what was written; one that has grown too large is cut just beyond the bound."""
        data = bytearray()
        try:
            reply = await obstore.get_async(store, path)
            async for chunk in reply.stream(min_chunk_size=_CHUNK):
                data += chunk
                if len(data) > self.place.largest:
                    break
        except FileNotFoundError:
            return None
        except exceptions.BaseError as error:
            raise self.bucket.failure(error) from None
        await asyncio.to_thread(file.write_bytes, data)
        return len(data), buckets.version(reply.meta)


def _check(seen: int, wanted: int, size: int) -> None:
    if seen > files.MAX_ENTRIES or wanted > files.MAX_FILES or size > files.MAX_BYTES:
        raise SourceFailure(
            "TooLarge",
            f"more than {files.MAX_FILES} objects, or {files.MAX_BYTES >> 30} GiB; narrow include or the uri",
        )


def _moment(item: Any) -> str:
    return str(item["last_modified"].isoformat())
