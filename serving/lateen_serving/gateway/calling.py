# SPDX-License-Identifier: Apache-2.0
"""Calls to models that survive a rollout and a lost replica, always before anything of a reply has been sent.

    take a place -> pick a revision -> wait for a replica (queue timeout) -> work (request timeout) -> answered | failed
                            ^                                                        |
                            +---- pause, newest catalog <--- replica lost -----------+

Called by `generate.py`, `retrieve.py` and `embeddings.py`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from lateen_api.catalog import Index, Model
from lateen_serving.errors import Overloaded, QueueTimeout, ReplicaLost, ServiceError, Unavailable
from lateen_serving.gateway import choosing
from lateen_serving.gateway.attempts import Attempts
from lateen_serving.gateway.context import Service
from lateen_serving.gateway.model_metrics import Outcome
from lateen_serving.gateway.room import Place
from lateen_serving.gateway.state import Snapshot
from lateen_serving.gateway.traffic import is_failure, is_revisions_doing
from lateen_serving.gateway.waiting import Wait, too_long, within

__all__ = ["Obtained", "call", "obtain", "renewed_index", "renewed_model", "within"]

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_QUEUE_SECONDS = 30.0
"""Longest wait for the embedder of an index whose model has left the catalog."""
_QUEUED_REQUESTS = 128
"""Requests that may wait for such an embedder."""

ResultT = TypeVar("ResultT")
TargetT = TypeVar("TargetT", bound=Model | Index)


@dataclass(frozen=True)
class Obtained(Generic[TargetT, ResultT]):
    """What a call brought."""

    target: TargetT
    """Who did it."""

    result: ResultT

    since: float
    """When the first request to that application was sent, by the loop's clock."""

    seconds: float
    """From then until the result."""


async def call(
    service: Service,
    target: TargetT,
    deadline: float | None,
    work: Callable[[TargetT], Awaitable[ResultT]],
    renewed: Callable[[Snapshot, TargetT], TargetT],
    roll: float | None = None,
) -> tuple[TargetT, ResultT]:
    """`work(target)` and the target that did it, counted as answered or failed; raises as `obtain` does.

    Without `roll` it is made here.
    """
    roll = service.roll() if roll is None else roll
    found = await obtain(service, target, deadline, work, renewed, roll, Attempts())
    count(service, found.target, None, found.seconds)
    return found.target, found.result


async def obtain(
    service: Service,
    target: TargetT,
    deadline: float | None,
    work: Callable[[TargetT], Awaitable[ResultT]],
    renewed: Callable[[Snapshot, TargetT], TargetT],
    roll: float,
    attempts: Attempts,
) -> Obtained[TargetT, ResultT]:
    """`work(target)`, for a caller that counts the answer itself; failures are counted here.

    Of a model with a canary, `roll` picks the revision. Where `work` raises Unavailable it is tried again, each time
    with the target as `renewed` finds it in the newest catalog: a rollout may have replaced the application in the
    meantime. An application without a live replica, or with one that stops or lacks the adapter, is tried again until
    the model's queue timeout; a replica that died while it worked on the request as often as `attempts` allow. The other revision of a model with a canary gets
    the last of these tries and the second half of the queue timeout.

    Raises:
        Overloaded: Too many requests wait for the model already, here or in Ray.
        QueueTimeout: No replica was free in time.
        DeadlineExceeded: `deadline` (of the loop's clock) has passed.
        ServiceError: As `work` raised it.

    """
    first, *others = _turns(target, roll)
    if others and attempts.is_last:
        first, others = others[0], []
    return await _Call(service, first, work, renewed, others, attempts, deadline).run()


@dataclass
class _Call(Generic[TargetT, ResultT]):
    service: Service
    target: TargetT
    work: Callable[[TargetT], Awaitable[ResultT]]
    renewed: Callable[[Snapshot, TargetT], TargetT]
    others: list[TargetT]
    attempts: Attempts
    deadline: float | None
    wait: Wait = field(init=False)
    place: Place = field(init=False)
    tries: int = 0
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    async def run(self) -> Obtained[TargetT, ResultT]:
        queue, most = _queue(self.service, self.target)
        try:
            with self.service.room.place(_model_id(self.target), most) as self.place:
                self.wait = Wait(queue, self.deadline, self._begun)
                self.wait.reserve = queue / 2 if self.others else 0.0
                return await self._result()
        except ServiceError as error:
            await self._failed(error)
            raise

    async def _result(self) -> Obtained[TargetT, ResultT]:
        while True:
            try:
                result = await self.wait.attempt(self.work(self.target))
            except (Unavailable, QueueTimeout) as error:
                await self._turn(error)
            else:
                return Obtained(self.target, result, self.since, _now() - self.since)

    def _begun(self, seconds: float) -> None:
        self.place.leave()
        self.service.metrics.models.waited(_model_id(self.target), seconds)

    async def _turn(self, error: Unavailable | QueueTimeout) -> None:
        """Be ready for the next try, after a pause; raises if there is none."""
        self.tries += 1
        # A replica that stops as planned, or has not loaded the adapter, is none that the request may have killed.
        is_lost = isinstance(error, ReplicaLost)
        self.attempts.lost += is_lost
        self.place.take()
        is_over = isinstance(error, QueueTimeout) or (not is_lost and self.wait.is_over)
        if not self.others and is_over:
            if self.wait.has_begun:
                raise error
            raise too_long() from error
        if self.attempts.is_over:
            raise error
        count_unseen(self.service, self.target, error, _now() - self.since)
        if self.others and (is_over or self.attempts.is_last):
            await self._hand_over(error)
        self.service.log.warning("model call failed", attempt=self.tries, **error.to_dict())
        self.service.metrics.models.retried(_model_id(self.target))
        await self.wait.pause(self.service.pause(_pause_seconds(self.tries)))
        self.target = self.renewed(self.service.state.current, self.target)

    async def _hand_over(self, error: ServiceError) -> None:
        seconds = _now() - self.since
        # A wait in vain speaks against replicas that serve: they are too slow. Where none does, nothing is known.
        if isinstance(error, QueueTimeout) and await self.service.replicas.serve(_application(self.target)):
            self.service.state.traffic.ended(_application(self.target), error, seconds)
        self.target = self.others.pop()
        self.wait.reserve = 0.0
        self.since = _now()

    async def _failed(self, error: ServiceError) -> None:
        """Count a failure; one that a later try may not meet says when that is."""
        count(self.service, self.target, error, _now() - self.since)
        if isinstance(error, QueueTimeout):
            self.service.metrics.models.timed_out(_model_id(self.target))
        if isinstance(error, Overloaded | QueueTimeout | Unavailable):
            error.retry_after = await self.service.replicas.retry_after(_application(self.target))


def count(service: Service, target: Model | Index, error: ServiceError | None, seconds: float) -> None:
    """Note how a request to an application ended; see `traffic.Ledger.ended`."""
    service.state.traffic.ended(_application(target), error, seconds)
    service.metrics.models.ended(_model_id(target), _revision(target), _outcome(error))


def count_unseen(service: Service, target: Model | Index, error: ServiceError, seconds: float) -> None:
    """Note a failure after which the request goes on elsewhere, if the revision caused it; see `traffic`."""
    if is_revisions_doing(error):
        service.state.traffic.ended(_application(target), error, seconds)


def _outcome(error: ServiceError | None) -> Outcome:
    if error is None:
        return "answered"
    return "failed" if is_failure(error) else "refused"


def _turns(target: TargetT, roll: float) -> tuple[TargetT, ...]:
    if isinstance(target, Model):
        return cast("tuple[TargetT, ...]", choosing.turns(target, roll))
    return (target,)


def _queue(service: Service, target: Model | Index) -> tuple[float, int]:
    """The queue timeout, and how many requests may wait for the model that is called."""
    model = target if isinstance(target, Model) else service.state.current.models.get(target.embedder)
    if model is None:
        return _QUEUE_SECONDS, _QUEUED_REQUESTS
    return float(model.queue_timeout_seconds), model.max_queued_requests


def _model_id(target: Model | Index) -> str:
    return target.id if isinstance(target, Model) else target.embedder


def _revision(target: Model | Index) -> str:
    return target.revision if isinstance(target, Model) else target.embedder_revision


def _application(target: Model | Index) -> str:
    return target.application if isinstance(target, Model) else target.embedder_application


def _pause_seconds(tries: int) -> float:
    """Exponential backoff with jitter, so that the requests of a lost replica don't come back all at once."""
    jitter = random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing
    return float(min(_FIRST_PAUSE_SECONDS * 2 ** min(tries - 1, 8), _LONGEST_PAUSE_SECONDS) * jitter)


def _now() -> float:
    return asyncio.get_running_loop().time()


def renewed_model(snapshot: Snapshot, model: Model) -> Model:
    """The same revision of the model in the newest catalog, or the one that serves if it is not there any more.

    Raises Unavailable if the model has gone.
    """
    current = snapshot.models.get(model.id)
    if current is None or current.task != model.task:
        raise Unavailable(f"The model '{model.id}' has just been removed.", code="model_removed")
    canary = choosing.of_canary(current)
    if canary is not None and canary.application == model.application:
        return canary
    return current


def renewed_index(snapshot: Snapshot, index: Index) -> Index:
    """The index as the newest catalog has it; raises Unavailable if it has gone."""
    current = snapshot.indexes.get(index.id)
    if current is None:
        raise Unavailable(
            f"The vector store '{index.id}' has just been removed.", code="vector_store_removed"
        )
    return current
