# SPDX-License-Identifier: Apache-2.0
"""The vectors of a collection in Weaviate, as `quality.Vectors`. Wired by `build.py`."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from lateen_serving.rag.quality import Page
from lateen_serving.rag.retry import Patience, insist
from lateen_serving.rag.store import PATIENCE, Connection, translated

T = TypeVar("T")


class WeaviateVectors:
    """Implements `quality.Vectors` on a collection that is there."""

    def __init__(self, connection: Connection, collection: str, patience: Patience = PATIENCE) -> None:
        self._connection, self._collection, self._patience = connection, collection, patience

    async def queued(self) -> int:
        """Vectors that searches don't see yet; always 0 unless Weaviate runs with ASYNC_INDEXING."""

        async def operation() -> int:
            shards = await (await self._connection.collection(self._collection)).config.get_shards()
            return sum(int(shard.vector_queue_size) for shard in shards)

        return await self._insist(operation)

    async def page(self, after: str | None, limit: int) -> Page:
        """Those with the next ids after a UUID; None: from the first."""

        async def operation() -> Page:
            asked = (await self._connection.collection(self._collection)).query
            found = await asked.fetch_objects(
                limit=limit, after=after, include_vector=True, return_properties=[]
            )
            return _page(found.objects)

        return await self._insist(operation)

    async def nearest(self, vector: Sequence[float], limit: int) -> Page:
        """What a search finds, nearest first."""

        async def operation() -> Page:
            asked = (await self._connection.collection(self._collection)).query
            found = await asked.near_vector(
                list(vector), limit=limit, include_vector=True, return_properties=[]
            )
            return _page(found.objects)

        return await self._insist(operation)

    async def _insist(self, operation: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            async with translated():
                return await operation()

        return await insist(once, self._patience)


def _page(objects: Iterable[Any]) -> Page:
    rows = [(str(item.uuid), item.vector.get("default") or []) for item in objects]
    return Page([key for key, _ in rows], [vector for _, vector in rows])
