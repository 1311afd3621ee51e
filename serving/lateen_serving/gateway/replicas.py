# SPDX-License-Identifier: Apache-2.0
"""What is known of the replicas behind the applications: what they said of their models, and how many serve.

Both are asked from Ray, so every answer is kept for a few seconds. Used by `report.py` and, for `Retry-After`, by
`calling.py`; built by `app.py`.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from lateen_api.gateway_report import Facts

KEPT_SECONDS = 3.0
_CONCURRENT_READS = 8
_READ_SECONDS = 2.0
_SOON_SECONDS = 1
_LONGEST_RETRY_AFTER_SECONDS = 3600

ReadFacts = Callable[[str], Awaitable[Facts | None]]
"""What the replicas of an application said; None: nothing yet."""

CountServing = Callable[[], Awaitable[Mapping[str, int]]]
"""Replicas that serve, by application."""


@dataclass(frozen=True)
class _Known:
    facts: Facts | None
    until: float


class Replicas:
    """Asks for facts and numbers of replicas, and keeps the answers. One per gateway replica."""

    def __init__(
        self,
        read_facts: ReadFacts,
        count_serving: CountServing,
        log: structlog.typing.FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_facts = read_facts
        self._count_serving = count_serving
        self._log = log
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._serving: Mapping[str, int] | None = None
        self._serving_until = -math.inf
        self._asking = asyncio.Lock()

    async def facts(self, applications: Collection[str]) -> dict[str, Facts]:
        """Facts of those applications of which there are any. Never raises: what can't be read now is as it was."""
        reading = asyncio.Semaphore(_CONCURRENT_READS)

        async def one(application: str) -> Facts | None:
            async with reading:
                return await self._facts(application)

        found = await asyncio.gather(*(one(application) for application in applications))
        return {name: facts for name, facts in zip(applications, found, strict=True) if facts is not None}

    def keep(self, applications: Collection[str]) -> None:
        """Forget what is known of all other applications."""
        for gone in self._known.keys() - set(applications):
            del self._known[gone]

    async def retry_after(self, application: str) -> int:
        """Seconds after which another try makes sense: how long a replica takes to load where none serves, else 1."""
        # One after the other: many requests fail at once when a model is overloaded, and one answer is good for all.
        async with self._asking:
            serving = await self._count()
            if serving is None or serving.get(application, 0) > 0:
                return _SOON_SECONDS
            facts = await self._facts(application)
        if facts is None:
            return _SOON_SECONDS
        return min(max(math.ceil(facts.load_seconds), _SOON_SECONDS), _LONGEST_RETRY_AFTER_SECONDS)

    async def serve(self, application: str) -> bool:
        """Whether any replica of it serves; False where nothing is known."""
        async with self._asking:
            serving = await self._count()
        return serving is not None and serving.get(application, 0) > 0

    async def _facts(self, application: str) -> Facts | None:
        known = self._known.get(application)
        if known is not None and self._clock() < known.until:
            return known.facts
        facts = known.facts if known is not None else None
        try:
            async with asyncio.timeout(_READ_SECONDS):
                facts = await self._read_facts(application)
        except Exception as error:  # noqa: BLE001 - a report without some facts is better than none
            self._log.warning("facts not read", application=application, failure=type(error).__name__)
        self._known[application] = _Known(facts, self._clock() + KEPT_SECONDS)
        return facts

    async def _count(self) -> Mapping[str, int] | None:
        if self._clock() >= self._serving_until:
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    self._serving = await self._count_serving()
            except Exception as error:  # noqa: BLE001 - only a header depends on it
                self._log.warning("replicas not counted", failure=type(error).__name__)
                self._serving = None
            self._serving_until = self._clock() + KEPT_SECONDS
        return self._serving
