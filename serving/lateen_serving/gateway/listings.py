# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/models`, `/v1/models/{id}`, `/v1/vector_stores` and `/v1/vector_stores/{id}`: what the catalog holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Index, Model
from lateen_serving.errors import InputError
from lateen_serving.gateway import replies, resolve
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.requests.paging import PageRequest


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


def vector_stores(context: RequestContext, wanted: PageRequest) -> Response:
    """A page of the indexes, by the time of their creation; raises InputError for an unknown `after`."""
    ordered = sorted(
        context.snapshot.indexes.values(),
        key=lambda index: (index.created, index.id),
        reverse=wanted.order == "desc",
    )
    if wanted.after is not None:
        place = next((at for at, index in enumerate(ordered) if index.id == wanted.after), None)
        if place is None:
            raise InputError(f"There is no vector store '{wanted.after}' to go on behind.", param="after")
        ordered = ordered[place + 1 :]
    data = [_vector_store(index) for index in ordered[: wanted.limit]]
    return replies.json_response(list_page(data, has_more=len(ordered) > wanted.limit))


def list_page(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """OpenAI's page of a list."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


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
