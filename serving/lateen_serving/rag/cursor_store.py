# SPDX-License-Identifier: Apache-2.0
"""The cursors of an index's sources, kept in Weaviate beside its ledger. Called by `sync.py` as `protocol.Cursors`."""

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lateen_api import names
from lateen_serving.rag.retry import insist
from lateen_serving.rag.store import PATIENCE, Connection, translated

_KIND = "cursors"
_ID = uuid.uuid5(uuid.NAMESPACE_URL, "lateen.dev/cursors")

T = TypeVar("T")


class WeaviateCursors:
    """Implements `protocol.Cursors` as one object of the ledger's collection, which must be there."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._ledger = names.ledger_collection(collection)

    async def read(self) -> str:
        """The text; empty before the first."""

        async def operation() -> str:
            ledger = await self._connection.collection(self._ledger)
            found = await ledger.query.fetch_object_by_id(_ID)
            return "" if found is None else str(found.properties["body"])

        return await _insist(operation)

    async def write(self, text: str) -> None:
        """Replace the text."""
        properties = {"kind": _KIND, "key": _KIND, "content_hash": "", "chunks": 0, "tokens": 0, "body": text}

        async def operation() -> None:
            data = (await self._connection.collection(self._ledger)).data
            if await data.exists(_ID):
                await data.replace(_ID, properties)
            else:
                await data.insert(properties, uuid=_ID)

        await _insist(operation)


async def _insist(operation: Callable[[], Awaitable[T]]) -> T:
    async def once() -> T:
        async with translated():
            return await operation()

    return await insist(once, PATIENCE)
