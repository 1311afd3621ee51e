# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/vector_stores/{id}/search`."""

from typing import Any

from starlette.responses import Response

from lateen_serving.gateway import body, replies, resolve, retrieve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.search import SearchRequest
from lateen_serving.rag.passages import Passage

_SECONDS = 60.0
"""Longest time for one search; here no model sets it."""


async def search(
    service: Service, context: RequestContext, index_id: str, document: dict[str, Any]
) -> Response:
    """The passages of one index that fit a query; raises ServiceError."""
    context.indexes = [resolve.index(context.snapshot, index_id, "vector_store_id")]
    request = body.parse(SearchRequest, document)
    context.query = request.query
    context.deadline = context.started + _SECONDS
    await retrieve.retrieve(service, context, request.options())
    page = {
        "object": "vector_store.search_results.page",
        "search_query": [request.query],
        "data": [_result(passage) for passage in context.passages],
        "has_more": False,
        "next_page": None,
    }
    return replies.json_response(page)


def _result(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": passage.score,
        "attributes": retrieve.attributes(passage),
        "content": [{"type": "text", "text": passage.text}],
    }
