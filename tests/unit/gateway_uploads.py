# SPDX-License-Identifier: Apache-2.0
"""Uploaded files in memory, in place of Weaviate, for the gateway of `gateway_fakes.py`."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from lateen_api.catalog import Pushed
from lateen_serving.rag import ids
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.file_store import File
from lateen_serving.rag.listing import IndexedDocument
from lateen_serving.rag.pushes import Push
from unit.gateway_search import FakeSearch


@dataclass
class FakeUploads:
    """Files, and which of them are in which index: what is in an index is listed by `search` as in progress."""

    search: FakeSearch
    files: dict[str, File] = field(default_factory=dict)
    stored: dict[str, list[bytes]] = field(default_factory=dict)
    pushed: dict[tuple[str, str], Push] = field(default_factory=dict)
    """By collection and file id."""
    error: Exception | None = None
    now: int = 1_700_000_000_000

    async def put(self, name: str, purpose: str, size: int, parts: AsyncIterator[bytes]) -> File:
        self._check()
        self.now += 1000
        file = File(ids.new_file(), name, purpose, size, self.now, "digest")
        self.stored[file.id] = [part async for part in parts]
        self.files[file.id] = file
        return file

    async def get(self, file_id: str) -> File | None:
        self._check()
        return self.files.get(file_id)

    async def page(
        self, after: File | None, limit: int, *, descending: bool, purpose: str | None
    ) -> list[File]:
        self._check()
        ordered = sorted(self.files.values(), key=lambda file: file.order, reverse=descending)
        behind = ordered[ordered.index(after) + 1 :] if after is not None else ordered
        return [file for file in behind if purpose in (None, file.purpose)][:limit]

    async def parts(self, file: File) -> AsyncIterator[bytes]:
        self._check()
        for part in self.stored[file.id]:
            yield part

    async def delete(self, file_id: str) -> None:
        self.files.pop(file_id, None)

    async def attach(self, pushed: Pushed, file: File, attributes: Mapping[str, Value]) -> None:
        self._check()
        push = Push(file.id, file.name, file.bytes, file.digest, file.created, self.now, attributes)
        self.pushed[pushed.collection, file.id] = push
        self.hold(pushed, IndexedDocument(ids.of_document(pushed.source, file.id), 0, True, push=push))

    async def attached(self, pushed: Pushed, file_id: str) -> bool:
        self._check()
        return (pushed.collection, file_id) in self.pushed

    async def detach(self, pushed: Pushed, file_id: str) -> None:
        self.pushed.pop((pushed.collection, file_id), None)
        self.hold(pushed, IndexedDocument(ids.of_document(pushed.source, file_id), 0), there=False)

    def hold(self, pushed: Pushed, document: IndexedDocument, *, there: bool = True) -> None:
        """Put a document into the list of the index, in place of an earlier one of its id, or take it out."""
        held = self.search.held.setdefault(pushed.collection.removesuffix("_pushed"), [])
        held[:] = [*(one for one in held if one.id != document.id), *([document] if there else [])]

    def done(self, pushed: Pushed, file_id: str) -> None:
        """As a build leaves it."""
        push = self.pushed[pushed.collection, file_id]
        known = IndexedDocument(ids.of_document(pushed.source, file_id), 0, chunks=2, tokens=30)
        self.hold(pushed, replace(known, push=push))

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
