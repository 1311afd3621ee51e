# SPDX-License-Identifier: Apache-2.0
"""What clients upload and put into indexes, as the gateway sees it. One per gateway replica."""

import time
from collections.abc import AsyncIterator, Callable, Mapping

from lateen_api.catalog import Pushed
from lateen_serving import errors
from lateen_serving.rag import files, ids, pushes
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.file_store import Bounds, File, FileStore
from lateen_serving.rag.pushes import Push
from lateen_serving.rag.store import Connection
from lateen_serving.settings import ServingSettings


class Uploads:
    """Uploaded files in Weaviate, and which of them are in which index.

    Every method raises errors.Unavailable when Weaviate does not answer.
    """

    def __init__(self, settings: ServingSettings, clock: Callable[[], float] = time.time) -> None:
        """Cheap: the connection is made by the first call."""
        self._connection = Connection(settings)
        bounds = Bounds(settings.files, settings.files_bytes, settings.files_replicas)
        self._files = FileStore(self._connection, bounds, clock)
        self._clock = clock

    async def put(self, name: str, purpose: str, size: int, parts: AsyncIterator[bytes]) -> File:
        """Store a new file of `size` bytes; raises errors.InputError where there is no room."""
        return await self._files.put(File(ids.new_file(), name, purpose, size, self._now()), parts)

    async def get(self, file_id: str) -> File | None:
        """A file; None if there is none of that id."""
        return await self._files.get(file_id)

    async def page(
        self, after: File | None, limit: int, *, descending: bool, purpose: str | None
    ) -> list[File]:
        """The first `limit` files behind `after`, by the time of their upload."""
        return await self._files.page(after, limit, descending=descending, purpose=purpose)

    def parts(self, file: File) -> AsyncIterator[bytes]:
        """The file's bytes, in parts; raises errors.NotFound when it has been deleted meanwhile."""
        return self._files.parts(file)

    async def delete(self, file_id: str) -> None:
        """Delete a file; gone is fine."""
        await self._files.delete(file_id)

    async def attach(self, pushed: Pushed, file: File, attributes: Mapping[str, Value]) -> None:
        """Put a file into an index, or give it other attributes; raises errors.InputError where there is no room."""
        where = pushed.collection
        if not await pushes.exists(self._connection, where):
            error = errors.Unavailable("The vector store is being prepared for files. Try again in a moment.")
            error.retry_after = 2
            raise error
        if await pushes.one(self._connection, where, file.id) is None:
            await self._check_room(where, file)
        push = Push(file.id, file.name, file.bytes, file.digest, file.created, self._now(), attributes)
        await pushes.put(self._connection, where, push)

    async def attached(self, pushed: Pushed, file_id: str) -> bool:
        """Whether a file is in an index, or on its way into it."""
        if not ids.is_file(file_id) or not await pushes.exists(self._connection, pushed.collection):
            return False
        return await pushes.one(self._connection, pushed.collection, file_id) is not None

    async def detach(self, pushed: Pushed, file_id: str) -> None:
        """Take a file out of an index; one that is not in it is fine."""
        if await pushes.exists(self._connection, pushed.collection):
            await pushes.remove(self._connection, pushed.collection, file_id, self._now())

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        await self._connection.aclose()

    async def _check_room(self, collection: str, file: File) -> None:
        number, size = await pushes.size(self._connection, collection)
        if number >= files.MAX_FILES or size + file.bytes > files.MAX_BYTES:
            raise errors.InputError(
                f"A vector store takes at most {files.MAX_FILES} files of {files.MAX_BYTES >> 30} GiB in all.",
                code="vector_store_full",
                param="file_id",
            )

    def _now(self) -> int:
        return int(self._clock() * 1000)
