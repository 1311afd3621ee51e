# SPDX-License-Identifier: Apache-2.0
"""`/v1/files`: uploading, listing, reading and deleting files."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from lateen_serving.errors import InputError, NotFound
from lateen_serving.gateway import calling, listings, replies
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.multipart import Upload
from lateen_serving.gateway.requests.files import FilePageRequest
from lateen_serving.rag.file_store import File

_SECONDS = 60.0
_STORING_SECONDS = 300.0
_MOST = 1000
"""Files of a page."""


async def create(service: Service, context: RequestContext, upload: Upload) -> Response:
    """Store a file; raises ServiceError."""
    context.deadline = asyncio.get_running_loop().time() + _STORING_SECONDS
    work = service.uploads.put(upload.name, upload.purpose, upload.size, upload.parts())
    return replies.json_response(_file(await calling.within(context.deadline, work)))


async def files(service: Service, context: RequestContext, wanted: FilePageRequest) -> Response:
    """A page of the files, by the time of their upload; raises InputError for an unknown `after`."""
    context.deadline = context.started + _SECONDS
    after = None
    if wanted.after is not None:
        after = await calling.within(context.deadline, service.uploads.get(wanted.after))
        if after is None:
            raise InputError(f"There is no file '{wanted.after}' to go on behind.", param="after")
    limit = min(wanted.limit, _MOST)
    work = service.uploads.page(after, limit + 1, descending=wanted.order == "desc", purpose=wanted.purpose)
    found = await calling.within(context.deadline, work)
    data = [_file(file) for file in found[:limit]]
    return replies.json_response(listings.list_page(data, has_more=len(found) > limit))


async def file(service: Service, context: RequestContext, file_id: str) -> Response:
    """One file; raises NotFound."""
    return replies.json_response(_file(await find(service, context, file_id)))


async def content(service: Service, context: RequestContext, file_id: str) -> Response:
    """The bytes of a file; raises NotFound."""
    found = await find(service, context, file_id)
    parts = service.uploads.parts(found)
    first = await calling.within(context.deadline, anext(parts))
    headers = {
        "content-length": str(found.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(found.name)}",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(_all(first, parts), headers=headers, media_type="application/octet-stream")


async def delete(service: Service, context: RequestContext, file_id: str) -> Response:
    """Take a file out of all indexes and delete it; raises NotFound, or InputError where an index keeps it."""
    found = await find(service, context, file_id)
    stores = [(index.id, index.pushed) for index in context.snapshot.indexes.values() if index.pushed]
    for index_id, pushed in stores:
        attached = service.uploads.attached
        if pushed.keeps and await calling.within(context.deadline, attached(pushed, found.id)):
            raise kept(index_id, "file_id")
    for _, pushed in stores:
        await calling.within(context.deadline, service.uploads.detach(pushed, found.id))
    await calling.within(context.deadline, service.uploads.delete(found.id))
    return replies.json_response({"id": found.id, "object": "file", "deleted": True})


async def find(service: Service, context: RequestContext, file_id: str) -> File:
    """A file; raises NotFound."""
    context.deadline = context.started + _SECONDS
    found = await calling.within(context.deadline, service.uploads.get(file_id))
    if found is None:
        raise NotFound(
            f"There is no file '{file_id[:128]}'. GET /v1/files lists those there are.",
            code="file_not_found",
            param="file_id",
        )
    return found


def kept(index_id: str, param: str) -> InputError:
    """A document that can't be taken out of an index."""
    return InputError(
        f"The vector store '{index_id}' keeps its documents: sync.deletePolicy of its RAGIndex is Keep.",
        code="document_kept",
        param=param,
    )


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


def _file(found: File) -> dict[str, Any]:
    return {
        "id": found.id,
        "object": "file",
        "bytes": found.bytes,
        "created_at": found.created // 1000,
        "expires_at": None,
        "filename": found.name,
        "purpose": found.purpose,
        "status": "processed",
        "status_details": None,
    }
