# SPDX-License-Identifier: Apache-2.0
"""Uploads and pushes that come at the same time, with Weaviate in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from weaviate import exceptions
from weaviate.classes.data import DataObject

from lateen_api import names, pushing
from lateen_serving import errors
from lateen_serving.rag import ids, pushes
from lateen_serving.rag.file_store import Bounds, File, FileStore
from lateen_serving.rag.pushes import Push
from lateen_serving.rag.store import Connection

BOUNDS = Bounds(10, 100)


def refused(words: str) -> exceptions.UnexpectedStatusCodeError:
    """Weaviate's reply to what is there already."""
    return exceptions.UnexpectedStatusCodeError(words, httpx.Response(422, text=words))


class MemoryCollection:
    """Rows of one collection; every call lets others in before it is done."""

    def __init__(self) -> None:
        self.rows: dict[UUID, dict[str, Any]] = {}
        self.data = self.query = self.aggregate = self

    async def exists(self, key: UUID) -> bool:
        await asyncio.sleep(0)
        return key in self.rows

    async def insert(self, row: dict[str, Any], uuid: UUID) -> None:
        await asyncio.sleep(0)
        if uuid in self.rows:
            raise refused("the id already exists")
        self.rows[uuid] = row

    async def insert_many(self, objects: Sequence[DataObject[Any, Any]]) -> None:
        await asyncio.sleep(0)
        self.rows |= {cast("UUID", each.uuid): each.properties for each in objects}

    async def replace(self, key: UUID, row: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.rows[key] = row

    async def fetch_objects(self, **_: Any) -> Any:
        return SimpleNamespace(objects=[])

    async def over_all(self, *, filters: Any, **_: Any) -> Any:
        wanted = {each.target: each.value for each in getattr(filters, "filters", [filters])}
        found = [row for row in self.rows.values() if wanted.items() <= row.items()]
        size = SimpleNamespace(sum_=sum(row["bytes"] for row in found))
        return SimpleNamespace(total_count=len(found), properties={"bytes": size})


class MemoryConnection:
    """`Connection` to collections in memory."""

    def __init__(self) -> None:
        self.known: dict[str, MemoryCollection] = {}
        self.collections = self

    async def client(self) -> "MemoryConnection":
        return self

    async def collection(self, name: str) -> MemoryCollection:
        return self.known[name]

    async def exists(self, name: str) -> bool:
        await asyncio.sleep(0)
        return name in self.known

    async def create(self, name: str, **_: Any) -> None:
        await asyncio.sleep(0)
        if name in self.known:
            raise refused(f"class name {name} already exists")
        self.known[name] = MemoryCollection()


@pytest.fixture
def connection() -> Connection:
    """A Weaviate without collections."""
    return cast("Connection", MemoryConnection())


def new(size: int = 1) -> File:
    """A file to upload."""
    return File(ids.new_file(), "a.md", "assistants", size, 1)


async def given(*parts: bytes, breaks: bool = False) -> AsyncIterator[bytes]:
    """Parts of a file, whose sender may go away then."""
    for part in parts:
        yield part
    if breaks:
        raise ConnectionResetError


async def test_the_first_uploads_may_come_together(connection: Connection) -> None:
    """Both find no collection and make one; neither fails."""
    stores = [FileStore(connection, BOUNDS) for _ in range(3)]
    await asyncio.gather(*(store.put(new(), given(b"x")) for store in stores))
    rows = (await connection.collection(names.FILES_COLLECTION)).rows
    assert sum(row.get("complete", 0) for row in rows.values()) == 3


async def test_uploads_that_were_cut_off_take_room(connection: Connection) -> None:
    """Until they are swept: who never ends an upload can't fill the disk."""
    store = FileStore(connection, BOUNDS)
    with pytest.raises(ConnectionResetError):
        await store.put(new(60), given(b"x", breaks=True))
    with pytest.raises(errors.InputError, match="at most 100 bytes"):
        await store.put(new(60), given(b"x"))
    await store.put(new(40), given(b"x"))


async def test_the_same_push_may_come_twice_at_once(connection: Connection) -> None:
    """Neither fails, and there is one row."""
    await (await connection.client()).collections.create("pushed")
    push = Push(ids.new_file(), "a.md", 1, "digest", 1, 2)
    await asyncio.gather(*(pushes.put(connection, "pushed", push) for _ in range(2)))
    (row,) = (await connection.collection("pushed")).rows.values()
    assert (row["file"], row[pushing.GONE]) == (push.file, 0)
