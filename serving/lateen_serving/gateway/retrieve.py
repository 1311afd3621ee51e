# SPDX-License-Identifier: Apache-2.0
"""Third step: passages for a question. Called by `responses.py` and `vector_stores.py`.

For each index: embed -> search -> rerank -> choose -> add neighbours; then the indexes' passages are merged.
"""

import asyncio
import re
from collections.abc import Sequence

from lateen_api.catalog import Index
from lateen_api.prompts.composing import joined_passages
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.errors import InputError
from lateen_serving.gateway import calling, reranking
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.rag import expansion, ranking
from lateen_serving.rag.attributes import Value
from lateen_serving.rag.passages import Options, Passage, Search

NOTHING_FOUND = "nothing_found"
"""Note in `context.retrieval`: no passage was good enough."""

_OF_QUESTION = ("input[0]", "query")
"""What embedders and rerankers call a question that is too long for them."""

_HEAD = re.compile(r"^\[([0-9]+)\]", re.MULTILINE)
"""What a source begins with."""


async def retrieve(service: Service, context: RequestContext, options: Options) -> None:
    """Fill `context.passages` from `context.indexes` for `context.query`, best first, and `context.retrieval`.

    Several indexes share the largest of their limits and token budgets. Where an index was replaced meanwhile,
    `context.indexes` then names the one that was searched. Raises ServiceError; what is wrong with the question names
    `context.query_param`.
    """
    try:
        found = await _searched(service, context, options)
    except InputError as error:
        if error.param in _OF_QUESTION:
            error.message = error.message.replace(error.param, "the text that is searched for")
            error.param = context.query_param
        raise
    context.indexes = [index for index, _ in found]
    hows = [index.retrieval for index in context.indexes]
    passages = ranking.merged(
        [result for _, result in found], options.limit or max(how.limit for how in hows)
    )
    budgets = [how.max_context_tokens for how in hows if how.max_context_tokens is not None]
    budget = max(budgets) if len(budgets) == len(hows) else None
    context.passages = ranking.within_budget(passages, budget)
    if not context.passages:
        context.retrieval.append(NOTHING_FOUND)


async def _searched(
    service: Service, context: RequestContext, options: Options
) -> list[tuple[Index, list[Passage]]]:
    """What each index brings; when one fails the others are stopped, so that none goes on after its request."""
    searching = [asyncio.create_task(_search(service, context, index, options)) for index in context.indexes]
    try:
        return await asyncio.gather(*searching)
    except BaseException:
        for task in searching:
            task.cancel()
        await asyncio.gather(*searching, return_exceptions=True)
        raise


async def _search(
    service: Service, context: RequestContext, index: Index, options: Options
) -> tuple[Index, list[Passage]]:
    index, vector = await _embedded(service, context, index)
    how = index.retrieval
    limit = options.limit or how.limit
    wanted = Search(
        query=context.query,
        vector=vector,
        limit=ranking.candidates(how, limit, reranks=options.reranks),
        filter=options.filter,
        with_vectors=float(how.diversity) > 0,
    )
    found = await calling.within(context.deadline, service.searcher.search(index, wanted))
    if options.reranks:
        found = await reranking.rerank(service, context, index, found)
    least = float(how.min_score) if options.min_score is None else options.min_score
    chosen = ranking.chosen(found, how, limit, least)
    return index, await _with_neighbours(service, context, index, chosen)


async def _embedded(
    service: Service, context: RequestContext, index: Index
) -> tuple[Index, Sequence[float] | None]:
    """The index, as it is now, and the question's vector, where it needs one."""
    if index.retrieval.mode == "Keyword":
        return index, None

    async def embed(current: Index) -> Embeddings:
        # The index's own embedder, even while a newer revision of that model already serves others.
        return await service.caller.embed(current.embedder_application, [context.query])

    index, embeddings = await calling.call(service, index, context.deadline, embed, calling.renewed_index)
    return index, embeddings["vectors"][0].tolist()


async def _with_neighbours(
    service: Service, context: RequestContext, index: Index, passages: list[Passage]
) -> list[Passage]:
    reach = index.retrieval.neighbours
    places = expansion.places(passages, reach)
    if not places:
        return passages
    near = await calling.within(context.deadline, service.searcher.at(index, places))
    return expansion.expanded(passages, near, reach)


def attributes(passage: Passage) -> dict[str, Value]:
    """What clients are told of a passage besides its text."""
    own: dict[str, Value | None] = {
        "heading": passage.heading,
        "position": passage.position,
        "uri": passage.uri,
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
    }
    return {**passage.attributes, **{name: value for name, value in own.items() if value is not None}}


def sources(passages: Sequence[Passage]) -> str:
    """Passages as one text of numbered sources."""
    return joined_passages(numbered(passages))


def numbered(passages: Sequence[Passage]) -> list[str]:
    """Passages as numbered sources with their file names, the form in which models read them.

    What a document says can't look like the head of another source. Control tokens in it are text to every model: see
    `engine/prompt.py`.
    """
    return [
        f"[{number}] {_title(passage)}\n{_told(passage)}" for number, passage in enumerate(passages, start=1)
    ]


def _told(passage: Passage) -> str:
    return _HEAD.sub(r"(\1)", passage.text)


def _title(passage: Passage) -> str:
    where = [passage.heading] if passage.heading else []
    where += [f"page {passage.page}"] if passage.page is not None else []
    title = f"{passage.filename} ({', '.join(where)})" if where else passage.filename
    return " ".join(title.split())
