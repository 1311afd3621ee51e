# SPDX-License-Identifier: Apache-2.0
"""Fifth step: the model's answer, as a stream whose first event has arrived. Called by `answers.py`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from lateen_api.catalog import Model
from lateen_serving.engine.protocol import GenerateRequest, TokenEvent
from lateen_serving.errors import ModelError, ServiceError
from lateen_serving.gateway import calling
from lateen_serving.gateway.context import RequestContext, Service


class Answer:
    """The events of one answer. Whoever holds it must close it; closing stops the replica's work."""

    def __init__(
        self,
        context: RequestContext,
        number: int,
        first: TokenEvent,
        rest: AsyncGenerator[TokenEvent, None],
    ) -> None:
        self._context = context
        self._number = number
        self._first = first
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        """All events once, counting their tokens; raises ServiceError, also when the end is missing."""
        event = self._first
        while True:
            self._context.count(self._number, event)
            yield event
            if "finish_reason" in event:
                return
            try:
                event = await calling.within(self._context.deadline, anext(self._rest))
            except StopAsyncIteration:
                raise ModelError("The model's answer broke off.", code="answer_incomplete") from None

    async def aclose(self) -> None:
        """Stop. Safe to call more than once."""
        await self._rest.aclose()


async def start(service: Service, context: RequestContext, request: GenerateRequest, number: int) -> Answer:
    """Answer `number` of a request; sets `context.model` to the one that gives it.

    Any error until the first event is raised here, so that it can still be an HTTP error.
    """
    model = context.model
    assert model is not None

    async def first_event(current: Model) -> tuple[TokenEvent, AsyncGenerator[TokenEvent, None]]:
        events = service.caller.generate(current.application, request)
        try:
            return await anext(events), events
        except StopAsyncIteration:
            raise ModelError("The model gave no answer.", code="answer_incomplete") from None
        except (ServiceError, asyncio.CancelledError):
            await events.aclose()
            raise

    answering, (first, rest) = await calling.call(
        service, model, context.deadline, first_event, calling.renewed_model
    )
    context.model = answering
    context.first_token = asyncio.get_running_loop().time()
    return Answer(context, number, first, rest)
