# SPDX-License-Identifier: Apache-2.0
"""All answers of one request, started together and read as one stream. Called by `chat.py`, `completions.py` and
`responses.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lateen_serving.engine.protocol import GenerateRequest, TokenEvent
from lateen_serving.errors import BrokenOff, InputError, Unavailable
from lateen_serving.gateway import calling, generate
from lateen_serving.gateway.choice import Choice
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.generate import Answer

_WAITING = 64
"""Events of answers that wait to be written, at most; beyond that the answers wait."""


class Answers:
    """The answers. Whoever holds them must close them; closing stops the replicas' work."""

    def __init__(self, answers: Sequence[Answer], params: Mapping[str, str]) -> None:
        self._answers = answers
        self._params = params
        self._readers: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._answers)

    async def __aiter__(self) -> AsyncIterator[tuple[int, TokenEvent]]:
        """All events with the number of their answer; raises ServiceError as soon as one answer does."""
        with _named(self._params):
            async for numbered in self._events():
                yield numbered

    async def _events(self) -> AsyncIterator[tuple[int, TokenEvent]]:
        if len(self._answers) == 1:
            async for event in self._answers[0]:
                yield 0, event
            return
        arrived: asyncio.Queue[tuple[int, TokenEvent | Exception | None]] = asyncio.Queue(_WAITING)
        self._readers = [
            asyncio.create_task(_read(number, answer, arrived)) for number, answer in enumerate(self._answers)
        ]
        running = len(self._readers)
        while running:
            number, item = await arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield number, item

    async def aclose(self) -> None:
        """Stop. Safe to call more than once."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await asyncio.gather(*(answer.aclose() for answer in self._answers))


async def start(
    service: Service,
    context: RequestContext,
    requests: Sequence[GenerateRequest],
    params: Mapping[str, str],
) -> Answers:
    """The answers to `requests`, each with its first event; if one fails until then, all are stopped and it raises.

    `params` translates the engine's names of fields in its errors to those of the endpoint.
    """
    with _named(params):
        if len(requests) == 1:
            return Answers([await generate.start(service, context, requests[0], 0)], params)
        return Answers(await _start_all(service, context, requests), params)


async def whole(
    service: Service,
    context: RequestContext,
    requests: Sequence[GenerateRequest],
    params: Mapping[str, str],
    reads_calls: bool = False,
) -> list[Choice]:
    """The whole answers to `requests`, for a reply that is sent at its end.

    Nothing of it has been sent before, so what breaks off in the middle is begun again, `calling.ATTEMPTS` times in all.
    """
    attempt = 1
    while True:
        going = await start(service, context, requests, params)
        try:
            return await complete(going, reads_calls)
        except (Unavailable, BrokenOff) as error:
            if attempt == calling.ATTEMPTS:
                raise
            service.log.warning("an answer is begun again", attempt=attempt, **error.to_dict())
            service.metrics.models.retried(context.model.id if context.model else "")
        attempt += 1


async def complete(answers: Answers, reads_calls: bool = False) -> list[Choice]:
    """The whole answers."""
    choices = [Choice(reads_calls) for _ in range(len(answers))]
    try:
        async for number, event in answers:
            choices[number].feed(event)
    finally:
        await answers.aclose()
    return choices


@contextmanager
def _named(params: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        error.param = params.get(error.param, error.param) if error.param else None
        raise


async def _start_all(
    service: Service, context: RequestContext, requests: Sequence[GenerateRequest]
) -> list[Answer]:
    starting = [
        asyncio.create_task(generate.start(service, context, request, number))
        for number, request in enumerate(requests)
    ]
    try:
        return await asyncio.gather(*starting)
    except BaseException:
        for task in starting:
            task.cancel()
        for outcome in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(outcome, Answer):
                await outcome.aclose()
        raise


async def _read(
    number: int, answer: Answer, arrived: "asyncio.Queue[tuple[int, TokenEvent | Exception | None]]"
) -> None:
    try:
        async for event in answer:
            await arrived.put((number, event))
    except Exception as error:  # noqa: BLE001 - it is raised where the answers are read
        await arrived.put((number, error))
    else:
        await arrived.put((number, None))
