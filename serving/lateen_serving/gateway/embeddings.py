# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/embeddings`."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from lateen_api.catalog import Model
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.errors import UnsupportedField
from lateen_serving.gateway import body, calling, replies, resolve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.embeddings import EmbeddingsRequest


async def embeddings(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Vectors of texts; raises ServiceError."""
    request = body.parse(EmbeddingsRequest, document)
    model = resolve.model(context, request.model, "embed")

    async def work(current: Model) -> Embeddings:
        return await service.caller.embed(current.application, request.input)

    model, result = await calling.call(service, model, context.deadline, work, calling.renewed_model)
    context.model = model
    dimension = int(result["vectors"].shape[1])
    if request.dimensions not in {None, dimension}:
        raise UnsupportedField(
            f"'{request.model}' has {dimension} dimensions and can't shorten its vectors. Leave 'dimensions' out.",
            param="dimensions",
        )
    context.prompt_tokens = sum(result["tokens"])
    return replies.json_response(_document(request, result["vectors"], context.prompt_tokens))


def _document(request: EmbeddingsRequest, vectors: npt.NDArray[np.float32], tokens: int) -> dict[str, Any]:
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    as_text = request.encoding_format == "base64"
    return {
        "object": "list",
        "model": request.model,
        "data": [
            {
                "object": "embedding",
                "index": number,
                "embedding": base64.b64encode(row.tobytes()).decode() if as_text else row,
            }
            for number, row in enumerate(rows)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
