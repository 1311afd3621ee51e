# SPDX-License-Identifier: Apache-2.0
"""Third step: passages for a question. Called by `responses.py` and `vector_stores.py`."""

import asyncio
from collections.abc import Sequence

from lateen_api.catalog import Index
from lateen_api.prompts.composing import joined_passages
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.gateway import calling
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.rag.retrieve import Passage


async def retrieve(service: Service, context: RequestContext, limit: int | None) -> None:
    """Fill `context.passages` from `context.indexes` for `context.query`, best first.

    `limit` bounds them in total; None: the largest `retrieval.limit` of the indexes. Where an index was replaced
    meanwhile, `context.indexes` then names the one that was searched.
    """
    found = await asyncio.gather(*(_search(service, context, index, limit) for index in context.indexes))
    context.indexes = [index for index, _ in found]
    passages = [passage for _, result in found for passage in result]
    # The sort is stable: equal scores keep the order in which the request named the indexes.
    passages.sort(key=lambda passage: passage.score, reverse=True)
    context.passages = passages[: limit or max(index.retrieval.limit for index in context.indexes)]


async def _search(
    service: Service, context: RequestContext, index: Index, limit: int | None
) -> tuple[Index, list[Passage]]:
    vector: Sequence[float] | None = None
    if index.retrieval.mode != "Keyword":

        async def embed(current: Index) -> Embeddings:
            # The index's own embedder, even while a newer revision of that model already serves others.
            return await service.caller.embed(current.embedder_application, [context.query])

        index, embeddings = await calling.call(service, index, context.deadline, embed, calling.renewed_index)
        vector = embeddings["vectors"][0].tolist()
    work = service.searcher.search(index, context.query, vector, limit or index.retrieval.limit)
    return index, await calling.within(context.deadline, work)


def sources(passages: Sequence[Passage]) -> str:
    """Passages as one text of numbered sources."""
    return joined_passages(numbered(passages))


def numbered(passages: Sequence[Passage]) -> list[str]:
    """Passages as numbered sources with their file names, the form in which models read them."""
    return [
        f"[{number}] {passage.filename}{f' ({passage.heading})' if passage.heading else ''}\n{passage.text}"
        for number, passage in enumerate(passages, start=1)
    ]
