# SPDX-License-Identifier: Apache-2.0
"""What is known of the replicas behind the applications: what they said of their models, and how many serve.

Both are asked from Ray, so every answer is kept for a moment. Used by `report.py` and, for requests that have failed, by
`calling.py`; built by `app.py`. A request that has failed waits for Ray for a moment only: then what was known last counts.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import structlog

from lateen_api import names
from lateen_api.gateway_report import Facts
from lateen_serving.facts import Census, Living, Record, settled

KEPT_SECONDS = 1.0
_ASK_SECONDS = 2.0
BRIEFLY_SECONDS = 0.25
"""How long a request that has failed waits for Ray's word."""

_SOON_SECONDS = 1
_LONGEST_RETRY_AFTER_SECONDS = 3600

AnswerT = TypeVar("AnswerT")


class Ray(Protocol):
    """What Ray knows; any method may raise anything."""

    async def records(self) -> list[Record]:
        """What all replicas said of their models."""
        ...

    async def living(self) -> Census:
        """The replicas of all applications, the gateway's included, as Ray knew them when it was asked."""
        ...

    async def forget(self, records: tuple[Record, ...]) -> None:
        """Delete records."""
        ...


class Replicas:
    """Asks for facts and numbers of replicas, and keeps the answers. One per gateway replica."""

    def __init__(
        self,
        ray: Ray,
        log: structlog.typing.FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ray = ray
        self._log = log
        self._clock = clock
        self._facts: Mapping[str, Facts] = {}
        self._living: Mapping[str, Living] | None = None
        self._until = -math.inf
        self._looking: asyncio.Task[None] | None = None

    async def facts(self) -> Mapping[str, Facts]:
        """Facts of those applications of which there are any. Never raises: what can't be read now is as it was."""
        await self._look()
        return self._facts

    async def retry_after(self, application: str) -> int:
        """Seconds after which another try makes sense: how long a replica takes to load where none serves, else 1."""
        await self._look(BRIEFLY_SECONDS)
        facts = self._facts.get(application)
        lives = (self._living or {}).get(application, Living())
        if self._living is None or lives.serving or facts is None:
            return _SOON_SECONDS
        return min(max(math.ceil(facts.load_seconds), _SOON_SECONDS), _LONGEST_RETRY_AFTER_SECONDS)

    async def serve(self, application: str) -> bool:
        """Whether any replica of it serves; False where nothing is known."""
        await self._look(BRIEFLY_SECONDS)
        return bool((self._living or {}).get(application, Living()).serving)

    async def _look(self, patience: float | None = None) -> None:
        """Ask Ray where what is known is old, and wait for at most `patience` seconds; the asking goes on."""
        # One for all: many requests fail at once when a model is overloaded, and one answer is good for each of them.
        if self._looking is None or self._looking.done():
            if self._clock() < self._until:
                return
            self._looking = asyncio.create_task(self._ask())
        await asyncio.wait({self._looking}, timeout=patience)

    async def _ask(self) -> None:
        records = await self._asked(self._ray.records(), "facts not read")
        read_at = self._clock()
        census = await self._asked(self._ray.living(), "replicas not counted")
        if census is not None:
            self._living = census.replicas
        if records is not None and census is not None:
            await self._settle(records, census, read_at)
        self._until = self._clock() + KEPT_SECONDS

    async def _settle(self, records: list[Record], census: Census, read_at: float) -> None:
        found = settled(records, census.replicas)
        self._facts = found.facts
        # An answer to an earlier question, which took long, does not know a replica that has started since and told its
        # facts. And where Ray does not even know this gateway, it does not know what it runs.
        is_known = census.asked_at >= read_at and names.GATEWAY_APPLICATION in census.replicas
        if found.gone and is_known:
            await self._asked(self._ray.forget(found.gone), "facts not forgotten")

    async def _asked(self, answer: Awaitable[AnswerT], failed: str) -> AnswerT | None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await answer
        except Exception as error:  # noqa: BLE001 - a report without some facts is better than none
            self._log.warning(failed, failure=type(error).__name__)
            return None
