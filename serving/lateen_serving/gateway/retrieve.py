# SPDX-License-Identifier: Apache-2.0
"""Third step: passages for a question. Called by `responses.py` and `vector_stores.py`."""

import asyncio
from collections.abc import Sequence

from lateen_api.catalog import Index, Model
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.errors import Unavailable
from lateen_serving.gateway import calling
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.rag.retrieve import Passage

Vector = Sequence[float]


async def retrieve(service: Service, context: RequestContext, limit: int | None) -> None:
    """Fill `context.passages` from `context.indexes` for `context.query`, best first.

    `limit` bounds them in total; None: the largest `retrieval.limit` of the indexes. The query is embedded once per
    embedder. Raises Unavailable where an index and its embedder don't fit together just now.
    """
    indexes = context.indexes
    vectors = await _vectors(service, context, indexes)
    found = await calling.within(
        context.deadline,
        asyncio.gather(
            *(
                service.searcher.search(
                    index, context.query, vectors.get(index.embedder), limit or index.retrieval.limit
                )
                for index in indexes
            )
        ),
    )
    passages = [passage for result in found for passage in result]
    # The sort is stable: equal scores keep the order in which the request named the indexes.
    passages.sort(key=lambda passage: passage.score, reverse=True)
    total = limit or max(index.retrieval.limit for index in indexes)
    context.passages = passages[:total]


async def _vectors(service: Service, context: RequestContext, indexes: Sequence[Index]) -> dict[str, Vector]:
    embedders = {
        index.embedder: _embedder(context, index) for index in indexes if index.retrieval.mode != "Keyword"
    }
    vectors = await asyncio.gather(*(_embed(service, context, model) for model in embedders.values()))
    return dict(zip(embedders, vectors, strict=True))


def _embedder(context: RequestContext, index: Index) -> Model:
    model = context.snapshot.models.get(index.embedder)
    if model is None or model.task != "embed":
        raise Unavailable(
            f"The embedding model '{index.embedder}' of vector store '{index.id}' is not available now.",
            code="embedder_unavailable",
        )
    if model.revision != index.embedder_revision:
        raise Unavailable(
            f"The vector store '{index.id}' is being rebuilt for a new embedding model. Try again later.",
            code="index_rebuilding",
        )
    return model


async def _embed(service: Service, context: RequestContext, model: Model) -> Vector:
    async def work(current: Model) -> Embeddings:
        if current.revision != model.revision:
            raise Unavailable(
                f"The embedding model '{model.id}' has just been replaced. Try again later.",
                code="index_rebuilding",
            )
        return await service.caller.embed(current.application, [context.query])

    deadline = context.deadline or context.started + model.request_timeout_seconds
    _, embeddings = await calling.call(service, model, deadline, work)
    vector: Vector = embeddings["vectors"][0].tolist()
    return vector


def sources(passages: Sequence[Passage]) -> str:
    """Passages as numbered sources with their file names, the form in which models read them."""
    return "\n\n".join(
        f"[{number}] {passage.filename}{f' ({passage.heading})' if passage.heading else ''}\n{passage.text}"
        for number, passage in enumerate(passages, start=1)
    )
