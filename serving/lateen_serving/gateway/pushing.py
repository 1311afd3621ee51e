# SPDX-License-Identifier: Apache-2.0
"""What clients put into an index and take out of it: `POST` and `DELETE` below `/v1/vector_stores/{id}/files`.

The gateway only writes down what is wanted. The operator sees it within seconds and starts a build, which indexes it.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Index, Pushed
from lateen_serving.errors import InputError
from lateen_serving.gateway import body, calling, files, replies, vector_store_files
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.files import AttachRequest, AttributesRequest
from lateen_serving.rag import ids
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.file_store import File


async def attach(
    service: Service, context: RequestContext, index_id: str, document: dict[str, Any]
) -> Response:
    """Put an uploaded file into an index; raises ServiceError."""
    index = vector_store_files.index(context, index_id)
    pushed = _pushed(index)
    request = body.parse(AttachRequest, document)
    found = await files.find(service, context, request.file_id)
    return await _attach(service, context, index, pushed, found, request.attributes)


async def change(
    service: Service, context: RequestContext, index_id: str, file_id: str, document: dict[str, Any]
) -> Response:
    """Give a file of an index other attributes; raises ServiceError."""
    index = vector_store_files.index(context, index_id)
    pushed = _pushed(index)
    request = body.parse(AttributesRequest, document)
    await _check_pushed(service, context, index, pushed, file_id)
    found = await files.find(service, context, file_id)
    return await _attach(service, context, index, pushed, found, request.attributes)


async def detach(service: Service, context: RequestContext, index_id: str, file_id: str) -> Response:
    """Take a file out of an index; it stays uploaded. Raises ServiceError."""
    index = vector_store_files.index(context, index_id)
    pushed = _pushed(index)
    await _check_pushed(service, context, index, pushed, file_id)
    if pushed.keeps:
        raise files.kept(index.id, "file_id")
    await calling.within(context.deadline, service.uploads.detach(pushed, file_id))
    return replies.json_response({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


async def _attach(
    service: Service,
    context: RequestContext,
    index: Index,
    pushed: Pushed,
    found: File,
    attributes: Mapping[str, Value],
) -> Response:
    if found.bytes > pushed.max_document_bytes:
        raise InputError(
            f"The file '{found.id}' has {found.bytes} bytes; the vector store '{index.id}' takes at most"
            f" {pushed.max_document_bytes} (spec.parsing.maxDocumentBytes of its RAGIndex).",
            code="file_too_large",
            param="file_id",
        )
    await calling.within(context.deadline, service.uploads.attach(pushed, found, attributes))
    return await vector_store_files.file(service, context, index.id, found.id)


def _pushed(index: Index) -> Pushed:
    if index.pushed is None:
        raise InputError(
            f"The vector store '{index.id}' takes no files: add a source with `push: {{}}` to spec.sources of its RAGIndex.",
            code="vector_store_without_push",
            param="vector_store_id",
        )
    return index.pushed


async def _check_pushed(
    service: Service, context: RequestContext, index: Index, pushed: Pushed, file_id: str
) -> None:
    """Raise NotFound unless the index has the file, InputError where it has it from another source."""
    if await calling.within(context.deadline, service.uploads.attached(pushed, file_id)):
        return
    known = None
    if not ids.is_file(file_id):
        known = await calling.within(context.deadline, service.searcher.document(index, file_id))
    if known is None:
        raise vector_store_files.not_found(index.id, file_id)
    raise InputError(
        f"The document '{file_id}' comes from the source '{file_id.partition('/')[0]}' of the RAGIndex; change it there.",
        code="document_not_pushed",
        param="file_id",
    )
