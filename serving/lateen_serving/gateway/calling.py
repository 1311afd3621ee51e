# SPDX-License-Identifier: Apache-2.0
"""Calls to models that survive a rollout: a lost replica or application is asked again, under its current name.

Called by `generate.py`, `retrieve.py` and `embeddings.py`, always before anything of a reply has been sent.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lateen_api.catalog import Index, Model
from lateen_serving.errors import DeadlineExceeded, Unavailable
from lateen_serving.gateway.context import Service
from lateen_serving.gateway.state import Snapshot

ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.05

ResultT = TypeVar("ResultT")
TargetT = TypeVar("TargetT")


async def within(deadline: float | None, work: Awaitable[ResultT]) -> ResultT:
    """The result of `work`; raises DeadlineExceeded when the loop's clock passes `deadline`."""
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceeded("The request was not done within the model's request timeout.") from error


async def call(
    service: Service,
    target: TargetT,
    deadline: float | None,
    work: Callable[[TargetT], Awaitable[ResultT]],
    renewed: Callable[[Snapshot, TargetT], TargetT],
) -> tuple[TargetT, ResultT]:
    """`work(target)` and the target that did it.

    Where it raises Unavailable it is tried again, at most `ATTEMPTS` times in all, each time with the target as
    `renewed` finds it in the newest catalog: a rollout may have replaced the application in the meantime.
    """
    attempt = 1
    while True:
        try:
            return target, await within(deadline, work(target))
        except Unavailable as error:
            if attempt == ATTEMPTS:
                raise
            service.log.warning("model call failed", attempt=attempt, **error.to_dict())
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing
        await within(deadline, service.pause(_FIRST_PAUSE_SECONDS * 2**attempt * jitter))
        target = renewed(service.state.current, target)
        attempt += 1


def renewed_model(snapshot: Snapshot, model: Model) -> Model:
    """The model as the newest catalog has it; raises Unavailable if it has gone."""
    current = snapshot.models.get(model.id)
    if current is None or current.task != model.task:
        raise Unavailable(f"The model '{model.id}' has just been removed.", code="model_removed")
    return current


def renewed_index(snapshot: Snapshot, index: Index) -> Index:
    """The index as the newest catalog has it; raises Unavailable if it has gone."""
    current = snapshot.indexes.get(index.id)
    if current is None:
        raise Unavailable(
            f"The vector store '{index.id}' has just been removed.", code="vector_store_removed"
        )
    return current
