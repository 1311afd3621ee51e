# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/vector_stores/{id}/files` and `/v1/vector_stores/{id}/files/{file_id}`: the documents of an index."""

from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Index
from lateen_api.index_build import DocumentFailure
from lateen_serving.errors import NotFound
from lateen_serving.gateway import calling, listings, replies, resolve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.files import DocumentPageRequest
from lateen_serving.rag import ids
from lateen_serving.rag.listing import IndexedDocument, Wanted

_SECONDS = 60.0
"""Longest time; here no model sets it."""

_UNSUPPORTED = frozenset({"NotText", "Unsupported"})
_INVALID = frozenset({"TooLarge", "Empty", "Malformed", "Encrypted", "Bomb"})


async def files(
    service: Service, context: RequestContext, index_id: str, wanted: DocumentPageRequest
) -> Response:
    """A page of the documents, in the order of their ids; raises ServiceError."""
    found = index(context, index_id)
    within = Wanted(
        limit=wanted.limit,
        after=_inside(found, wanted.after),
        before=_inside(found, wanted.before),
        descending=wanted.order == "desc",
        status=wanted.filter,
    )
    page = await calling.within(context.deadline, service.searcher.documents(found, within))
    data = [_file(found, document) for document in page.documents]
    return replies.json_response(listings.list_page(data, has_more=page.has_more))


async def file(service: Service, context: RequestContext, index_id: str, file_id: str) -> Response:
    """One document; raises NotFound."""
    found = index(context, index_id)
    wanted = _inside(found, file_id) or file_id
    document = await calling.within(context.deadline, service.searcher.document(found, wanted))
    if document is None:
        raise not_found(index_id, file_id)
    return replies.json_response(_file(found, document))


def index(context: RequestContext, index_id: str) -> Index:
    """The index that a request is about; raises NotFound."""
    found = resolve.index(context.snapshot, index_id, "vector_store_id")
    context.indexes = [found]
    context.deadline = context.started + _SECONDS
    return found


def not_found(index_id: str, file_id: str) -> NotFound:
    """The index has no such document."""
    return NotFound(
        f"The vector store '{index_id}' has no file '{file_id}'. GET /v1/vector_stores/{index_id}/files lists"
        " those it has.",
        code="file_not_found",
        param="file_id",
    )


def _inside(index: Index, file_id: str | None) -> str | None:
    """The id of a document that clients call `file_id`."""
    return ids.inside(index.pushed.source if index.pushed else None, file_id) if file_id else None


def _file(index: Index, document: IndexedDocument) -> dict[str, Any]:
    """The size of what no client has pushed is null: what is kept of it is its passages."""
    source, _, filename = document.id.partition("/")
    push = document.push
    return {
        "id": ids.public(document.id),
        "object": "vector_store.file",
        "created_at": push.changed // 1000 if push is not None else document.at,
        "vector_store_id": index.id,
        "status": document.status,
        "last_error": _error(document.failure) if document.failure else None,
        "usage_bytes": push.bytes if push is not None else None,
        "attributes": {
            **(push.attributes if push is not None else {}),
            "source": source,
            "filename": push.name if push is not None else filename,
            "chunks": document.chunks,
            "tokens": document.tokens,
        },
    }


def _error(failure: DocumentFailure) -> dict[str, str]:
    """OpenAI knows three codes; the reason itself begins the message."""
    code = "server_error"
    if failure.reason in _UNSUPPORTED:
        code = "unsupported_file"
    elif failure.reason in _INVALID:
        code = "invalid_file"
    return {"code": code, "message": f"{failure.reason}: {failure.message}"}
