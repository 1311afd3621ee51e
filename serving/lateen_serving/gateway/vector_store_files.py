# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/vector_stores/{id}/files` and `/v1/vector_stores/{id}/files/{file_id}`: the documents of an index."""

from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Index
from lateen_api.index_build import DocumentFailure
from lateen_serving.errors import NotFound
from lateen_serving.gateway import calling, listings, replies, resolve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.paging import PageRequest
from lateen_serving.rag.listing import IndexedDocument

_SECONDS = 60.0
"""Longest time; here no model sets it."""

_UNSUPPORTED = frozenset({"NotText", "Unsupported"})
_INVALID = frozenset({"TooLarge", "Empty", "Malformed", "Encrypted", "Bomb"})


async def files(service: Service, context: RequestContext, index_id: str, wanted: PageRequest) -> Response:
    """A page of the documents, in the order of their ids; raises ServiceError."""
    index = _index(context, index_id)
    work = service.searcher.documents(index, wanted.after, wanted.limit, descending=wanted.order == "desc")
    page = await calling.within(context.deadline, work)
    data = [_file(index, document) for document in page.documents]
    return replies.json_response(listings.list_page(data, has_more=page.has_more))


async def file(service: Service, context: RequestContext, index_id: str, file_id: str) -> Response:
    """One document; raises NotFound."""
    index = _index(context, index_id)
    found = await calling.within(context.deadline, service.searcher.document(index, file_id))
    if found is None:
        raise NotFound(
            f"The vector store '{index_id}' has no file '{file_id}'. GET /v1/vector_stores/{index_id}/files lists"
            " those it has.",
            code="file_not_found",
            param="file_id",
        )
    return replies.json_response(_file(index, found))


def _index(context: RequestContext, index_id: str) -> Index:
    index = resolve.index(context.snapshot, index_id, "vector_store_id")
    context.indexes = [index]
    context.deadline = context.started + _SECONDS
    return index


def _file(index: Index, document: IndexedDocument) -> dict[str, Any]:
    """Its size is null: what is kept of a document is its passages."""
    source, _, filename = document.id.partition("/")
    return {
        "id": document.id,
        "object": "vector_store.file",
        "created_at": document.at,
        "vector_store_id": index.id,
        "status": _status(document),
        "last_error": _error(document.failure) if document.failure else None,
        "usage_bytes": None,
        "attributes": {
            "source": source,
            "filename": filename,
            "chunks": document.chunks,
            "tokens": document.tokens,
        },
    }


def _status(document: IndexedDocument) -> str:
    if document.failure is not None:
        return "failed"
    return "in_progress" if document.is_pending else "completed"


def _error(failure: DocumentFailure) -> dict[str, str]:
    """OpenAI knows three codes; the reason itself begins the message."""
    code = "server_error"
    if failure.reason in _UNSUPPORTED:
        code = "unsupported_file"
    elif failure.reason in _INVALID:
        code = "invalid_file"
    return {"code": code, "message": f"{failure.reason}: {failure.message}"}
