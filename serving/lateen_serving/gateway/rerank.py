# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/rerank`, in the shape that Cohere and Jina share."""

import uuid
from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Model
from lateen_serving.engine.protocol import Ranking
from lateen_serving.gateway import body, calling, replies, resolve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.rerank import RerankRequest


async def rerank(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Documents by how well they answer a query, best first; raises ServiceError."""
    request = body.parse(RerankRequest, document)
    model = resolve.model(context, request.model, "rerank")

    async def work(current: Model) -> Ranking:
        return await service.caller.rerank(current.application, request.query, request.documents)

    model, ranking = await calling.call(service, model, context.deadline, work, calling.renewed_model)
    context.model = model
    context.prompt_tokens = sum(ranking["tokens"])
    return replies.json_response(_document(request, ranking, context.prompt_tokens))


def _document(request: RerankRequest, ranking: Ranking, tokens: int) -> dict[str, Any]:
    scores = ranking["scores"]
    # The sort is stable: of equal scores the document that was named first is first.
    order = sorted(range(len(scores)), key=lambda number: scores[number], reverse=True)
    results = []
    for number in order[: request.top_n]:
        result: dict[str, Any] = {"index": number, "relevance_score": float(scores[number])}
        if request.return_documents:
            result["document"] = {"text": request.documents[number]}
        results.append(result)
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "list",
        "model": request.model,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
