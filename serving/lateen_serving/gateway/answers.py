# SPDX-License-Identifier: Apache-2.0
"""All answers of one request, started together and read as one stream. Called by `chat.py`, `completions.py` and
`responses.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from lateen_serving.engine.protocol import GenerateRequest, TokenEvent
from lateen_serving.errors import InputError
from lateen_serving.gateway import generate
from lateen_serving.gateway.choice import Choice
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.generate import Answer

_WAITING = 64
"""Events of answers that wait to be written, at most; beyond that the answers wait."""


class Answers:
    """The answers. Whoever holds them must close them; closing stops the replicas' work."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._readers: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._answers)

    async def __aiter__(self) -> AsyncIterator[tuple[int, TokenEvent]]:
        """All events with the number of their answer; raises ServiceError as soon as one answer does."""
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
    starting = [
        asyncio.create_task(generate.start(service, context, request, number))
        for number, request in enumerate(requests)
    ]
    try:
        return Answers(await asyncio.gather(*starting))
    except InputError as error:
        error.param = params.get(error.param, error.param) if error.param else None
        await _abandon(starting)
        raise
    except BaseException:
        await _abandon(starting)
        raise


async def complete(answers: Answers, reads_calls: bool = False) -> list[Choice]:
    """The whole answers."""
    choices = [Choice(reads_calls) for _ in range(len(answers))]
    try:
        async for number, event in answers:
            choices[number].feed(event)
    finally:
        await answers.aclose()
    return choices


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


async def _abandon(starting: Sequence["asyncio.Task[Answer]"]) -> None:
    for task in starting:
        task.cancel()
    for outcome in await asyncio.gather(*starting, return_exceptions=True):
        if isinstance(outcome, Answer):
            await outcome.aclose()
