# SPDX-License-Identifier: Apache-2.0
"""Which uploaded files clients have put into an index: one row each, in a collection of that index.

Written by the gateway (`uploads.py`), read by builds (`push.py`) and by lists (`listing.py`). A row that is taken out
stays for a day as gone, so that the operator can tell since when the index lacks the change.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weaviate.classes.aggregate import Metrics
from weaviate.classes.config import Configure, DataType, Property
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, Sort

from lateen_api import pushing
from lateen_serving.rag import ids, schema
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.store import Connection, translated

GONE_SECONDS = 24 * 3600
"""How long rows stay that are gone."""

_PAGE = 1000


def _number(name: str) -> Property:
    return Property(name=name, data_type=DataType.INT, index_filterable=True)


def _text(name: str) -> Property:
    return Property(name=name, data_type=DataType.TEXT, index_filterable=False, index_searchable=False)


_PROPERTIES = [
    schema.exact("file"),
    schema.exact(schema.ORDER),
    *(_text(name) for name in ("name", "digest", "attributes")),
    *(_number(name) for name in ("bytes", "created", pushing.CHANGED, pushing.NONCE, pushing.GONE)),
]
_RETURNED = ["file", "name", "digest", "attributes", "bytes", "created", pushing.CHANGED, pushing.GONE]


@dataclass(frozen=True)
class Push:
    """A file that is in an index, or on its way into it."""

    file: str
    """Id of the file."""

    name: str
    """Its name."""

    bytes: int
    digest: str
    """SHA-256 of its bytes, in hex."""

    created: int
    """When it was uploaded; Unix time, milliseconds."""

    changed: int
    """When it was put into the index, or got other attributes; Unix time, milliseconds."""

    attributes: Mapping[str, Value] = field(default_factory=dict)
    """What the client says of it."""


async def ensure(connection: Connection, collection: str, replicas: int) -> None:
    """Create the collection if it is missing. Raises errors.Unavailable, as all here do."""
    async with translated():
        collections = (await connection.client()).collections
        if not await collections.exists(collection):
            await collections.create(
                collection,
                properties=_PROPERTIES,
                vector_config=Configure.Vectors.self_provided(
                    vector_index_config=Configure.VectorIndex.none()
                ),
                replication_config=Configure.replication(factor=replicas),
            )


async def exists(connection: Connection, collection: str) -> bool:
    """Whether the collection is there."""
    async with translated():
        return bool(await (await connection.client()).collections.exists(collection))


async def state(connection: Connection, collection: str) -> str:
    """`pushing.state` of the collection, which must be there."""
    async with translated():
        found = await (await connection.collection(collection)).aggregate.over_all(
            filters=_present(),
            total_count=True,
            return_metrics=Metrics(pushing.NONCE).integer(sum_=True),
        )
    return pushing.state(int(found.total_count), found.properties[pushing.NONCE].sum_)


async def size(connection: Connection, collection: str) -> tuple[int, int]:
    """Number of files in the index and the sum of their bytes."""
    async with translated():
        found = await (await connection.collection(collection)).aggregate.over_all(
            filters=_present(), total_count=True, return_metrics=Metrics("bytes").integer(sum_=True)
        )
    return int(found.total_count), int(found.properties["bytes"].sum_ or 0)


async def everything(connection: Connection, collection: str) -> tuple[list[Push], str]:
    """All that is in the index, by file id, and the `pushing.state` of just these."""
    async with translated():
        rows = (await connection.collection(collection)).iterator(
            return_properties=[*_RETURNED, pushing.NONCE], cache_size=_PAGE
        )
        found = [row.properties async for row in rows if not row.properties[pushing.GONE]]
    state = pushing.state(len(found), sum(int(row[pushing.NONCE]) for row in found))
    return sorted(map(_push, found), key=lambda push: push.file), state


async def page(
    connection: Connection, collection: str, after: str | None, limit: int, *, descending: bool
) -> list[Push]:
    """The first `limit` behind the file id `after`, in the order of file ids."""
    where = _present()
    if after is not None:
        order, place = Filter.by_property(schema.ORDER), schema.order(after)
        where = where & (order.less_than(place) if descending else order.greater_than(place))
    async with translated():
        found = await (await connection.collection(collection)).query.fetch_objects(
            filters=where,
            sort=Sort.by_property(schema.ORDER, ascending=not descending),
            limit=limit,
            return_properties=_RETURNED,
        )
    return [_push(row.properties) for row in found.objects]


async def one(connection: Connection, collection: str, file: str) -> Push | None:
    """What is said of a file; None if it is not in the index."""
    async with translated():
        row = await (await connection.collection(collection)).query.fetch_object_by_id(
            ids.key(file), return_properties=_RETURNED
        )
    return None if row is None or row.properties[pushing.GONE] else _push(row.properties)


async def put(connection: Connection, collection: str, push: Push) -> None:
    """Put a file into the index, or give it other attributes."""
    row = {
        "file": push.file,
        schema.ORDER: schema.order(push.file),
        "name": push.name,
        "digest": push.digest,
        "attributes": json.dumps(dict(push.attributes), ensure_ascii=False, sort_keys=True),
        "bytes": push.bytes,
        "created": push.created,
        pushing.CHANGED: push.changed,
        pushing.NONCE: secrets.randbelow(pushing.NONCES),
        pushing.GONE: 0,
    }
    async with translated():
        data = (await connection.collection(collection)).data
        # As a batch of one, because that replaces what is there: the same push may come twice at once.
        await data.insert_many([DataObject(properties=row, uuid=ids.key(push.file))])


async def remove(connection: Connection, collection: str, file: str, now: int) -> None:
    """Take a file out of the index, if it is in it; `now` in Unix time, milliseconds."""
    async with translated():
        data = (await connection.collection(collection)).data
        if await data.exists(ids.key(file)):
            await data.update(ids.key(file), {pushing.GONE: 1, pushing.CHANGED: now})


async def purge(connection: Connection, collection: str, now: int) -> None:
    """Forget what was taken out more than a day before `now` (Unix time, milliseconds)."""
    old = Filter.by_property(pushing.CHANGED).less_than(now - GONE_SECONDS * 1000)
    async with translated():
        data = (await connection.collection(collection)).data
        await data.delete_many(Filter.by_property(pushing.GONE).equal(1) & old)


def _present() -> Any:
    return Filter.by_property(pushing.GONE).equal(0)


def _push(row: Mapping[str, Any]) -> Push:
    return Push(
        file=row["file"],
        name=row["name"],
        bytes=int(row["bytes"]),
        digest=row["digest"],
        created=int(row["created"]),
        changed=int(row[pushing.CHANGED]),
        attributes=json.loads(row["attributes"]),
    )
