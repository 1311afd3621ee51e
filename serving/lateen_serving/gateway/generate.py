# SPDX-License-Identifier: Apache-2.0
"""Fifth step: the model's answer, as a stream whose first event has arrived. Called by `answers.py`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from lateen_api.catalog import Model
from lateen_serving.engine.protocol import GenerateRequest, TokenEvent
from lateen_serving.errors import BrokenOff, ModelError, ServiceError
from lateen_serving.gateway import calling
from lateen_serving.gateway.calling import Obtained
from lateen_serving.gateway.context import RequestContext, Service

PATIENCE_SECONDS = 45.0
"""How long `start` waits for the first event: well above usual queue timeouts, and below the 60 seconds after which
proxies end a silent connection."""

_Events = AsyncGenerator[TokenEvent, None]
_Begun = Obtained[Model, tuple[TokenEvent, _Events]]


class Answer:
    """The events of one answer. Whoever holds it must close it; closing stops the replica's work."""

    def __init__(
        self, service: Service, context: RequestContext, number: int, beginning: asyncio.Task[_Begun]
    ) -> None:
        self._service = service
        self._context = context
        self._number = number
        self._beginning = beginning
        self._is_counted = False

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        """All events once, counting their tokens; raises ServiceError, also when the end is missing."""
        begun = await self._beginning
        event, rest = begun.result
        try:
            while True:
                self._context.count(self._number, event)
                yield event
                if "finish_reason" in event:
                    return
                event = await calling.within(self._context.deadline, _next(rest))
        except ServiceError as error:
            self._count(begun, error)
            raise

    async def aclose(self) -> None:
        """Stop. Safe to call more than once."""
        if not self._beginning.done():
            self._beginning.cancel()
            await asyncio.wait({self._beginning})
        if self._beginning.cancelled() or self._beginning.exception() is not None:
            return
        begun = self._beginning.result()
        # Also an answer that its client did not wait for had its first token: the model did its part.
        self._count(begun, None)
        await begun.result[1].aclose()

    def _count(self, begun: _Begun, error: ServiceError | None) -> None:
        if not self._is_counted:
            self._is_counted = True
            calling.count(self._service, begun.target, error, begun.seconds)


async def start(service: Service, context: RequestContext, request: GenerateRequest, number: int) -> Answer:
    """Answer `number` of a request; sets `context.model` to the one that gives it.

    Any error until the first event is raised here, so that it can still be an HTTP error. Only if there is nothing
    after `PATIENCE_SECONDS`, the answer is handed out before its first event and raises such errors itself.
    """
    beginning = asyncio.create_task(_begin(service, context, request))
    answer = Answer(service, context, number, beginning)
    try:
        await asyncio.wait({beginning}, timeout=PATIENCE_SECONDS)
    except asyncio.CancelledError:
        await answer.aclose()
        raise
    if beginning.done():
        beginning.result()
    return answer


async def _begin(service: Service, context: RequestContext, request: GenerateRequest) -> _Begun:
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
        service, model, context.deadline, first_event, calling.renewed_model, context.roll
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
