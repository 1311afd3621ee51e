# SPDX-License-Identifier: Apache-2.0
"""Files that clients have uploaded, in one Weaviate collection: a row for each file and one for each MiB of it.

    row, not complete --(parts written)--> complete --(deleted)--> not complete --(parts removed)--> no row

Only complete files are seen. What a killed gateway leaves is swept by later uploads.
"""

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from weaviate.classes.aggregate import Metrics
from weaviate.classes.config import Configure, DataType, Property
from weaviate.classes.query import Filter, Sort

from lateen_api import names
from lateen_serving import errors
from lateen_serving.rag import ids, schema
from lateen_serving.rag.store import Connection, translated

PART_BYTES = 1 << 20
SWEPT_AFTER = 3600 * 1000
"""Milliseconds after which a file that is not complete is given up."""

_FILE, _PART = "file", "part"
_SWEPT_AT_ONCE = 20
_PAGE = 1000
_RETURNED = ["file", "name", "purpose", "digest", "bytes", "created"]


def _number(name: str) -> Property:
    return Property(name=name, data_type=DataType.INT, index_filterable=True)


def _plain(name: str, kind: DataType = DataType.TEXT) -> Property:
    return Property(name=name, data_type=kind, index_filterable=False, index_searchable=False)


_PROPERTIES = [
    *(schema.exact(name) for name in ("kind", "file", "purpose", schema.ORDER)),
    *(_plain(name) for name in ("name", "digest")),
    *(_number(name) for name in ("bytes", "created", "complete", "touched")),
    Property(name="data", data_type=DataType.BLOB, index_filterable=False),
]


@dataclass(frozen=True)
class File:
    """An uploaded file."""

    id: str
    name: str
    purpose: str
    bytes: int
    created: int
    """Unix time, milliseconds."""

    digest: str = ""
    """SHA-256 of its bytes, in hex."""

    @property
    def order(self) -> str:
        """Sorts by time."""
        return schema.order(f"{self.created:014d} {self.id}")


@dataclass(frozen=True)
class Bounds:
    """What may be stored in all."""

    files: int
    bytes: int
    replicas: int = 1


class FileStore:
    """The files. Every method raises errors.Unavailable when Weaviate does not answer."""

    def __init__(
        self, connection: Connection, bounds: Bounds, clock: Callable[[], float] = time.time
    ) -> None:
        self._connection, self._bounds, self._clock = connection, bounds, clock

    async def put(self, file: File, parts: AsyncIterator[bytes]) -> File:
        """Store a new file of `parts`, each of at most `PART_BYTES`; raises errors.InputError where there is no room."""
        await self._ensure()
        await self._sweep()
        await self._check_room(file)
        await self._write(file, complete=False)
        digest, number = hashlib.sha256(), 0
        async for part in parts:
            digest.update(part)
            await self._insert(_part_key(file.id, number), {
                "kind": _PART, "file": file.id, "data": base64.b64encode(part).decode(),
            })  # fmt: skip
            number += 1
        stored = File(file.id, file.name, file.purpose, file.bytes, file.created, digest.hexdigest())
        await self._write(stored, complete=True)
        return stored

    async def get(self, file_id: str) -> File | None:
        """A file; None if there is none of that id."""
        if not ids.is_file(file_id) or not await self._is_there():
            return None
        async with translated():
            row = await (await self._collection()).query.fetch_object_by_id(
                ids.key(file_id), return_properties=[*_RETURNED, "complete"]
            )
        return _file(row.properties) if row is not None and row.properties["complete"] else None

    async def page(
        self, after: File | None, limit: int, *, descending: bool, purpose: str | None
    ) -> list[File]:
        """The first `limit` files behind `after`, at most 1001, by the time of their upload."""
        if not await self._is_there():
            return []
        where = _complete()
        if after is not None:
            order = Filter.by_property(schema.ORDER)
            where &= order.less_than(after.order) if descending else order.greater_than(after.order)
        if purpose is not None:
            where &= Filter.by_property("purpose").equal(purpose)
        async with translated():
            found = await (await self._collection()).query.fetch_objects(
                filters=where,
                sort=Sort.by_property(schema.ORDER, ascending=not descending),
                limit=limit,
                return_properties=_RETURNED,
            )
        return [_file(row.properties) for row in found.objects]

    async def parts(self, file: File) -> AsyncIterator[bytes]:
        """The file's bytes, in parts; raises errors.NotFound when it has been deleted meanwhile."""
        read, number = 0, 0
        while read < file.bytes:
            async with translated():
                row = await (await self._collection()).query.fetch_object_by_id(
                    _part_key(file.id, number), return_properties=["data"]
                )
            if row is None:
                raise errors.NotFound(f"The file '{file.id}' has been deleted.", code="file_not_found")
            part = base64.b64decode(row.properties["data"])
            read, number = read + len(part), number + 1
            yield part

    async def delete(self, file_id: str) -> None:
        """Delete a file; gone is fine."""
        file = await self.get(file_id)
        if file is not None:
            await self._write(file, complete=False)
            await self._remove(file.id)

    async def missing(self, files: Sequence[str]) -> set[str]:
        """Those of `files` that are not there."""
        there: set[str] = set()
        if not files or not await self._is_there():
            return set(files)
        for start in range(0, len(files), _PAGE):
            some = Filter.by_id().contains_any([ids.key(file) for file in files[start : start + _PAGE]])
            async with translated():
                rows = await (await self._collection()).query.fetch_objects(
                    filters=some & _complete(), limit=_PAGE, return_properties=["file"]
                )
            there |= {str(row.properties["file"]) for row in rows.objects}
        return set(files) - there

    async def _ensure(self) -> None:
        if await self._is_there():
            return
        try:
            await self._create()
        except errors.ServiceError:
            if not await self._is_there():  # another upload was faster
                raise

    async def _create(self) -> None:
        async with translated():
            await (await self._connection.client()).collections.create(
                names.FILES_COLLECTION,
                properties=_PROPERTIES,
                vector_config=Configure.Vectors.self_provided(
                    vector_index_config=Configure.VectorIndex.none()
                ),
                replication_config=Configure.replication(factor=self._bounds.replicas),
            )

    async def _is_there(self) -> bool:
        async with translated():
            return bool(await (await self._connection.client()).collections.exists(names.FILES_COLLECTION))

    async def _check_room(self, file: File) -> None:
        """Raise InputError where there is none; what was cut off takes room until it is swept."""
        async with translated():
            found = await (await self._collection()).aggregate.over_all(
                filters=Filter.by_property("kind").equal(_FILE),
                total_count=True,
                return_metrics=Metrics("bytes").integer(sum_=True),
            )
        if found.total_count >= self._bounds.files:
            raise _full(f"{self._bounds.files} files")
        if (found.properties["bytes"].sum_ or 0) + file.bytes > self._bounds.bytes:
            raise _full(f"{self._bounds.bytes} bytes")

    async def _sweep(self) -> None:
        """Remove some of what was begun long ago and never ended."""
        old = Filter.by_property("touched").less_than(int(self._clock() * 1000) - SWEPT_AFTER)
        begun = Filter.by_property("kind").equal(_FILE) & Filter.by_property("complete").equal(0)
        async with translated():
            rows = await (await self._collection()).query.fetch_objects(
                filters=begun & old, limit=_SWEPT_AT_ONCE, return_properties=["file"]
            )
        for row in rows.objects:
            await self._remove(str(row.properties["file"]))

    async def _remove(self, file_id: str) -> None:
        """Remove all parts of a file, then its row."""
        parts = Filter.by_property("kind").equal(_PART) & Filter.by_property("file").equal(file_id)
        async with translated():
            data = (await self._collection()).data
            while (outcome := await data.delete_many(parts)).matches:  # one call removes a bounded number
                if outcome.failed:
                    raise errors.Unavailable(f"{outcome.failed} parts of a file were not deleted")
            await data.delete_by_id(ids.key(file_id))

    async def _write(self, file: File, *, complete: bool) -> None:
        await self._insert(ids.key(file.id), {
            "kind": _FILE, "file": file.id, "name": file.name, "purpose": file.purpose, "bytes": file.bytes,
            "digest": file.digest, "created": file.created, "complete": int(complete), schema.ORDER: file.order,
            "touched": int(self._clock() * 1000),
        })  # fmt: skip

    async def _insert(self, key: UUID, row: Mapping[str, Any]) -> None:
        async with translated():
            data = (await self._collection()).data
            if await data.exists(key):
                await data.replace(key, row)
            else:
                await data.insert(row, uuid=key)

    async def _collection(self) -> Any:
        return await self._connection.collection(names.FILES_COLLECTION)


def _part_key(file_id: str, number: int) -> UUID:
    return uuid5(ids.key(file_id), str(number))


def _complete() -> Any:
    return Filter.by_property("kind").equal(_FILE) & Filter.by_property("complete").equal(1)


def _full(what: str) -> errors.InputError:
    return errors.InputError(
        f"All files together may have at most {what}. Delete some that are not needed: DELETE /v1/files/{{id}}.",
        code="storage_full",
        param="file",
    )


def _file(row: Mapping[str, Any]) -> File:
    return File(
        id=row["file"],
        name=row["name"],
        purpose=row["purpose"],
        bytes=int(row["bytes"]),
        created=int(row["created"]),
        digest=row["digest"],
    )
