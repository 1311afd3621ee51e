# SPDX-License-Identifier: Apache-2.0
"""All answers of one request, started together and read as one stream. Called by `chat.py`, `completions.py` and
`responses.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lateen_serving.engine.protocol import GenerateRequest
from lateen_serving.errors import InputError, ServiceError
from lateen_serving.gateway import generate
from lateen_serving.gateway.attempts import Attempts
from lateen_serving.gateway.choice import Choice, Piece
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.generate import Answer

_WAITING = 64
"""Pieces of answers that wait to be written, at most; beyond that the answers wait."""

ResultT = TypeVar("ResultT")


class Answers:
    """The answers. Whoever holds them must close them; closing stops the replicas' work."""

    def __init__(self, answers: Sequence[Answer], params: Mapping[str, str]) -> None:
        self.choices = tuple(answer.choice for answer in answers)
        """The answers as far as they have arrived."""

        self._answers = answers
        self._params = params
        self._readers: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._answers)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece]]:
        """All pieces with the number of their answer; raises ServiceError as soon as one answer does."""
        with _named(self._params):
            async for numbered in self._pieces():
                yield numbered

    async def _pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        if len(self._answers) == 1:
            async for piece in self._answers[0]:
                yield 0, piece
            return
        arrived: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue(_WAITING)
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
    reads_calls: bool = False,
) -> Answers:
    """The answers to `requests`, each with its first event; if one fails until then, all are stopped and it raises.

    `params` translates the engine's names of fields in its errors to those of the endpoint.
    """

    async def one(number: int, request: GenerateRequest) -> Answer:
        return await generate.start(service, context, request, number, Choice(reads_calls), Attempts())

    with _named(params):
        return Answers(await _all(requests, one, Answer.aclose), params)


async def whole(
    service: Service,
    context: RequestContext,
    requests: Sequence[GenerateRequest],
    params: Mapping[str, str],
    reads_calls: bool = False,
) -> list[Choice]:
    """The whole answers to `requests`, for a reply that is sent at its end; if one fails, all are stopped."""

    async def one(number: int, request: GenerateRequest) -> Choice:
        return await _whole(service, context, request, number, reads_calls)

    async def forget(_: Choice) -> None:
        """A whole answer holds nothing."""

    with _named(params):
        return await _all(requests, one, forget)


async def _whole(
    service: Service, context: RequestContext, request: GenerateRequest, number: int, reads_calls: bool
) -> Choice:
    """Nothing of it has been sent, so when it breaks off in the middle it is begun again, as its attempts allow."""
    attempts = Attempts()
    request = GenerateRequest(**request, whole=True)
    while True:
        choice = Choice(reads_calls)
        answer = await generate.start(service, context, request, number, choice, attempts, is_whole=True)
        try:
            async for _ in answer:
                pass
            return answer.choice
        except ServiceError as error:
            if attempts.is_over or not answer.has_broken_off:
                raise
            answer.repeat()
            service.log.warning("an answer is begun again", lost=attempts.lost, **error.to_dict())
            service.metrics.models.retried(context.model.id if context.model else "")
        finally:
            await answer.aclose()


@contextmanager
def _named(params: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        error.param = params.get(error.param, error.param) if error.param else None
        raise


async def _all(
    requests: Sequence[GenerateRequest],
    work: Callable[[int, GenerateRequest], Coroutine[Any, Any, ResultT]],
    undo: Callable[[ResultT], Awaitable[None]],
) -> list[ResultT]:
    """What `work` makes of each request; when one fails the others are stopped, and those that were done are undone."""
    if len(requests) == 1:
        return [await work(0, requests[0])]
    working = [asyncio.create_task(work(number, request)) for number, request in enumerate(requests)]
    try:
        return await asyncio.gather(*working)
    except BaseException:
        for task in working:
            task.cancel()
        for outcome in await asyncio.gather(*working, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                await undo(outcome)
        raise


async def _read(
    number: int, answer: Answer, arrived: "asyncio.Queue[tuple[int, Piece | Exception | None]]"
) -> None:
    try:
        async for piece in answer:
            await arrived.put((number, piece))
    except Exception as error:  # noqa: BLE001 - it is raised where the answers are read
        await arrived.put((number, error))
    else:
        await arrived.put((number, None))
