# SPDX-License-Identifier: Apache-2.0
"""The reranker of an index: a model that reads question and passage together. Called by `retrieve.py`.

Passages that can't be reranked are still good ones: the answer is given without, and says so.

A canary that is given up goes on to its end, as in a request of `/v1/rerank`: what becomes of it judges it. Otherwise one
that hangs would never be seen by searches, which wait so much shorter than its own timeout.
"""

import asyncio
from collections.abc import Sequence

from lateen_api.catalog import Index, Model
from lateen_serving.engine.protocol import Ranking
from lateen_serving.errors import DeadlineExceeded, InputError, ServiceError
from lateen_serving.gateway import calling, choosing
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.rag import ranking
from lateen_serving.rag.passages import Passage

SECONDS = 5.0
"""Longest time for it, waiting for a replica included."""


def note(index: Index) -> str:
    """What `context.retrieval` says where the reranker was away."""
    return f"not_reranked;index={index.id}"


async def rerank(
    service: Service, context: RequestContext, index: Index, passages: Sequence[Passage]
) -> list[Passage]:
    """The passages with the scores of the index's reranker, best first.

    As they are where there is no reranker, or it does not answer in time, which is noted in `context.retrieval`.
    Raises errors.InputError where the question is at fault.
    """
    if index.reranker is None or not passages:
        return list(passages)
    model = context.snapshot.models.get(index.reranker)
    try:
        if model is not None and model.task == "rerank":
            return ranking.scored(passages, await _scores(service, context, model, passages))
    except ServiceError as error:
        if isinstance(error, InputError) and error.param == "query":  # else a passage's fault, or the index's
            raise
        service.log.warning("not reranked", index=index.id, **error.to_dict())
    context.retrieval.append(note(index))
    return list(passages)


async def _scores(
    service: Service, context: RequestContext, model: Model, passages: Sequence[Passage]
) -> Sequence[float]:
    texts = [
        f"{passage.heading}\n\n{passage.text}" if passage.heading else passage.text for passage in passages
    ]

    async def work(current: Model) -> Ranking:
        return await service.caller.rerank(current.application, context.query, texts)

    now, roll = asyncio.get_running_loop().time(), service.roll()
    deadline = now + SECONDS if context.deadline is None else min(now + SECONDS, context.deadline)
    is_judged = choosing.turns(model, roll)[0].application != model.application
    # Bounded from outside: that the search waits no longer says nothing against the reranker's revision.
    ends = now + model.request_timeout_seconds if is_judged else context.deadline
    ranked = calling.call(service, model, ends, work, calling.renewed_model, roll)
    if not is_judged:
        _, found = await calling.within(deadline, ranked)
        return _told(found)
    done = await service.left_behind.wait(ranked, deadline)
    if done is None:
        raise DeadlineExceeded("The reranker did not answer in the time that a search has for it.")
    return _told(done[1])


def _told(ranking: Ranking) -> list[float]:
    return [float(score) for score in ranking["scores"]]
