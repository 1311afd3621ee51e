# SPDX-License-Identifier: Apache-2.0
"""Finds the documents of a `push` source: what clients have put into the index. Called by `sources.py`."""

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from lateen_serving import errors
from lateen_serving.rag import ids, pushes
from lateen_serving.rag.file_store import Bounds, File, FileStore
from lateen_serving.rag.parsing.metadata import SIDECAR
from lateen_serving.rag.protocol import Cursor, Document, Loaded, SourceFailure
from lateen_serving.rag.pushes import Push
from lateen_serving.rag.retry import insist
from lateen_serving.rag.store import PATIENCE, Connection


class Pushed(Protocol):
    """What clients have put into one index; raises BuildFailure where Weaviate does not answer for long."""

    async def state(self) -> str | None:
        """Changes whenever one of the documents does; None: nothing was ever kept."""
        ...

    async def begin(self) -> None:
        """Be ready to keep documents."""
        ...

    async def documents(self) -> tuple[Sequence[Push], str]:
        """All documents whose bytes are there, and the state in which these were read."""
        ...

    async def read(self, push: Push) -> bytes:
        """The bytes of one; raises OSError when they are gone."""
        ...


async def load(name: str, pushed: Pushed | None, cursor: Cursor) -> Loaded:
    """The documents of the source called `name`; raises SourceFailure."""
    if pushed is None:
        raise SourceFailure("SourceNotFound", "the build was not told where pushed documents are")
    if await pushed.state() is None:
        if cursor.state:
            raise SourceFailure(
                "SourceNotFound",
                "what clients pushed is gone from Weaviate; what is indexed of it stays. Restore it, or begin anew by"
                " giving the source another name.",
            )
        await pushed.begin()
    # The state is that of the very documents: one asked for before or after may have come and gone meanwhile.
    found, state = await pushed.documents()
    documents = [_document(name, pushed, push, cursor) for push in found]
    return Loaded(documents, position=state, state={"begun": True})


def _document(name: str, pushed: Pushed, push: Push, cursor: Cursor) -> Document:
    said = json.dumps(dict(push.attributes), sort_keys=True).encode()
    version = hashlib.sha256(push.digest.encode() + b"\0" + said).hexdigest()[:32]
    document = Document(
        ids.of_document(name, push.file),
        name,
        push.name,
        f"push:{name}/{push.name}",
        push.bytes,
        partial(pushed.read, push),
        version=version,
        updated_at=datetime.fromtimestamp(push.created / 1000, UTC).isoformat(timespec="seconds"),
    )
    if push.attributes:
        beside = replace(document, id=document.id + SIDECAR, size=len(said), read=partial(_given, said))
        document = replace(document, sidecar=beside)
    return replace(document, unchanged=cursor.knows(document.id, document.uri, version))


async def _given(data: bytes) -> bytes:
    return data


class WeaviatePushed:
    """`Pushed` in Weaviate: rows of the index, bytes of the uploaded files."""

    def __init__(self, connection: Connection, collection: str, replicas: int) -> None:
        self._connection, self._collection, self._replicas = connection, collection, replicas
        self._files = FileStore(connection, Bounds(0, 0))

    async def state(self) -> str | None:
        """`pushing.state`; None while there is no collection."""

        async def operation() -> str | None:
            if not await pushes.exists(self._connection, self._collection):
                return None
            return await pushes.state(self._connection, self._collection)

        return await insist(operation, PATIENCE)

    async def begin(self) -> None:
        """Create the collection."""
        await insist(lambda: pushes.ensure(self._connection, self._collection, self._replicas), PATIENCE)

    async def documents(self) -> tuple[Sequence[Push], str]:
        """All whose file was not deleted, and the state of all."""

        async def operation() -> tuple[Sequence[Push], str]:
            await pushes.purge(self._connection, self._collection, int(time.time() * 1000))
            found, state = await pushes.everything(self._connection, self._collection)
            missing = await self._files.missing([push.file for push in found])
            return [push for push in found if push.file not in missing], state

        return await insist(operation, PATIENCE)

    async def read(self, push: Push) -> bytes:
        """The bytes of one."""
        file = File(push.file, push.name, "", push.bytes, push.created)

        async def operation() -> bytes:
            return b"".join([part async for part in self._files.parts(file)])

        return await _insisted(operation, push)


async def _insisted(operation: Callable[[], Awaitable[bytes]], push: Push) -> bytes:
    async def once() -> bytes | None:
        try:
            return await operation()
        except errors.NotFound:
            return None

    found = await insist(once, PATIENCE)
    if found is None:
        raise FileNotFoundError(f"{push.file} has been deleted")
    return found
