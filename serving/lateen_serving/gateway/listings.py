# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/models`, `/v1/models/{id}`, `/v1/vector_stores` and `/v1/vector_stores/{id}`: what the catalog holds."""

from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Index, Model
from lateen_serving.gateway import replies, resolve
from lateen_serving.gateway.context import RequestContext


def models(context: RequestContext) -> Response:
    """All models, each followed by its adapters."""
    data = [
        entry
        for model in context.snapshot.models.values()
        for entry in (_model(model), *(_adapter(model, name) for name in model.adapters))
    ]
    return replies.json_response({"object": "list", "data": data})


def model(context: RequestContext, model_id: str) -> Response:
    """One model or adapter; raises NotFound."""
    context.model, context.adapter = resolve.find_model(context.snapshot, model_id)
    entry = _adapter(context.model, context.adapter) if context.adapter else _model(context.model)
    return replies.json_response(entry)


def vector_stores(context: RequestContext) -> Response:
    """All indexes on one page."""
    data = [_vector_store(index) for index in context.snapshot.indexes.values()]
    page = {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": False,
    }
    return replies.json_response(page)


def vector_store(context: RequestContext, index_id: str) -> Response:
    """One index; raises NotFound."""
    index = resolve.index(context.snapshot, index_id, "vector_store_id")
    context.indexes = [index]
    return replies.json_response(_vector_store(index))


def _model(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": "lateen"}


def _adapter(model: Model, name: str) -> dict[str, Any]:
    """`root` and `parent` name the model it adapts, as in OpenAI's API of fine-tuned models."""
    return _model(model) | {"id": f"{model.id}:{name}", "root": model.id, "parent": model.id}


def _vector_store(index: Index) -> dict[str, Any]:
    """Sizes are null: only the vector store itself knows them, and the RAGIndex's status shows them."""
    return {
        "id": index.id,
        "object": "vector_store",
        "created_at": index.created,
        "name": index.id,
        "status": "completed",
        "usage_bytes": None,
        "file_counts": None,
        "expires_after": None,
        "expires_at": None,
        "last_active_at": None,
        "metadata": {"revision": index.revision, "embedder": index.embedder},
    }
