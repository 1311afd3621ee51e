# SPDX-License-Identifier: Apache-2.0
"""Fifth step: the model's answer, as a stream whose first event has arrived. Called by `answers.py`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from lateen_api.catalog import Model
from lateen_serving.engine.protocol import GenerateRequest, TokenEvent
from lateen_serving.errors import BrokenOff, ModelError, ServiceError, Unavailable
from lateen_serving.gateway import calling
from lateen_serving.gateway.attempts import Attempts
from lateen_serving.gateway.calling import Obtained
from lateen_serving.gateway.choice import Choice, Piece
from lateen_serving.gateway.context import RequestContext, Service

PATIENCE_SECONDS = 45.0
"""How long `start` waits for the first event: well above usual queue timeouts, and below the 60 seconds after which
proxies end a silent connection."""

REPEATABLE = (Unavailable, BrokenOff)
"""Failures in the middle of an answer after which another replica may do better."""

_Events = AsyncGenerator[TokenEvent, None]
_Begun = Obtained[Model, tuple[TokenEvent, _Events]]


class Answer:
    """One answer, piece by piece. Whoever holds it must close it; closing stops the replica's work if it goes on.

    Attributes:
        choice: The answer so far.
        attempts: The replicas it has cost, with those of earlier tries.
        is_whole: Whether its client gets it at its end, so that all of its time counts and not just that to its first
            event.

    """

    def __init__(
        self,
        service: Service,
        context: RequestContext,
        number: int,
        beginning: asyncio.Future[_Begun],
        choice: Choice,
        attempts: Attempts,
        is_whole: bool,
    ) -> None:
        self.choice = choice
        self.attempts = attempts
        self.is_whole = is_whole
        self._service = service
        self._context = context
        self._number = number
        self._beginning = beginning
        self._failure: ServiceError | None = None
        self._is_repeated = False
        self._is_counted = False

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """All of it once, counting its tokens; raises ServiceError, also when the end is missing."""
        event, rest = (await self._beginning).result
        try:
            while True:
                self._context.count(self._number, event)
                piece = self.choice.feed(event)
                yield piece
                if piece.finish_reason is not None:
                    return
                event = await calling.within(self._context.deadline, _next(rest))
        except ServiceError as error:
            self._failure = error
            self.attempts.lost += isinstance(error, REPEATABLE)
            raise

    @property
    def has_broken_off(self) -> bool:
        """Whether it ended in the middle in such a way that another replica may do better."""
        return isinstance(self._failure, REPEATABLE)

    def repeat(self) -> None:
        """Say that it is begun again, so that nobody sees its failure."""
        self._is_repeated = True

    async def aclose(self) -> None:
        """Stop. Safe to call more than once."""
        if not self._beginning.done():
            self._beginning.cancel()
            await asyncio.wait({self._beginning})
        if self._beginning.cancelled() or self._beginning.exception() is not None:
            return
        begun = self._beginning.result()
        self._count(begun)
        await begun.result[1].aclose()

    def _count(self, begun: _Begun) -> None:
        """Also an answer that its client did not wait for had its first token: the model did its part."""
        if self._is_counted:
            return
        self._is_counted = True
        seconds = asyncio.get_running_loop().time() - begun.since if self.is_whole else begun.seconds
        if self._failure is not None and self._is_repeated:
            calling.count_unseen(self._service, begun.target, self._failure, seconds)
        else:
            calling.count(self._service, begun.target, self._failure, seconds)


async def start(
    service: Service,
    context: RequestContext,
    request: GenerateRequest,
    number: int,
    choice: Choice,
    attempts: Attempts,
    is_whole: bool = False,
) -> Answer:
    """Answer `number` of a request, to be read into `choice`; sets `context.model` to the one that gives it.

    `is_whole` says that its client gets it at its end; see `Answer`.

    Any error until the first event is raised here, so that it can still be an HTTP error. Only if there is nothing
    after `PATIENCE_SECONDS`, a streamed answer is handed out before its first event and raises such errors itself.
    """
    if is_whole:
        # Nothing is sent before its end, so it is never handed out earlier, and needs no task beside this one.
        begun: asyncio.Future[_Begun] = asyncio.get_running_loop().create_future()
        begun.set_result(await _begin(service, context, request, attempts))
        return Answer(service, context, number, begun, choice, attempts, is_whole)
    beginning = asyncio.create_task(_begin(service, context, request, attempts))
    answer = Answer(service, context, number, beginning, choice, attempts, is_whole)
    try:
        await asyncio.wait({beginning}, timeout=PATIENCE_SECONDS)
    except asyncio.CancelledError:
        await answer.aclose()
        raise
    if beginning.done():
        beginning.result()
    return answer


async def _begin(
    service: Service, context: RequestContext, request: GenerateRequest, attempts: Attempts
) -> _Begun:
    asked = context.model
    assert asked is not None

    async def first_event(current: Model) -> tuple[TokenEvent, _Events]:
        context.model = current
        events = service.caller.generate(current.application, request)
        try:
            return await anext(events), events
        except StopAsyncIteration:
            raise ModelError("The model gave no answer.", code="answer_incomplete") from None
        except (ServiceError, asyncio.CancelledError):
            await events.aclose()
            raise

    # As the catalog has it: an earlier answer to the same request has left its own pick in the context.
    model = context.snapshot.models.get(asked.id, asked)
    begun = await calling.obtain(
        service, model, context.deadline, first_event, calling.renewed_model, context.roll, attempts
    )
    context.model = begun.target
    context.cut = begun.result[0].get("cut", [])
    context.first_token = asyncio.get_running_loop().time()
    return begun


async def _next(events: _Events) -> TokenEvent:
    try:
        return await anext(events)
    except StopAsyncIteration:
        raise BrokenOff("The model's answer broke off.") from None
