# SPDX-License-Identifier: Apache-2.0
"""Asks all replicas of the gateway for their report, through the one load balancer before them. Used by `ray.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from lateen_api.gateway_report import GatewayReport

MAX_PROBES = 12
REMEMBERED_SECONDS = 30.0
"""How long what a replica said stands for one that gets no turn or does not answer: a catalog is never followed by an
older one, so that it serves that one or a newer."""


class _Said(NamedTuple):
    when: float
    report: GatewayReport


class Probes:
    """Remembers what each replica said last. For one event loop.

    Args:
        probe: Asks whichever replica gets the turn; None where there is no answer.

    """

    def __init__(self, probe: Callable[[], Awaitable[GatewayReport | None]]) -> None:
        self._probe = probe
        self._said: dict[str, _Said] = {}

    async def ask(self, replicas: int) -> Mapping[str, GatewayReport] | None:
        """The latest report of each of so many replicas, by replica; None when one did not answer that has said nothing
        lately. One that never got a turn is missing then.
        """
        found, has_answered = await self._met(replicas)
        now = asyncio.get_running_loop().time()
        latest = {name: _Said(now, report) for name, report in found.items()} | {
            name: said
            for name, said in self._said.items()
            if name not in found and said.when >= now - REMEMBERED_SECONDS
        }
        # A replica that was replaced goes as soon as the others were met.
        kept = sorted(latest, key=lambda name: -latest[name].when)[:replicas]
        self._said = {name: latest[name] for name in kept}
        if not has_answered and len(kept) < max(1, replicas):
            return None
        return found | {name: said.report for name, said in self._said.items()}

    async def _met(self, replicas: int) -> tuple[dict[str, GatewayReport], bool]:
        """Who got a turn in at most `MAX_PROBES` tries, and whether each try was answered."""
        found: dict[str, GatewayReport] = {}
        tries, missing = 0, max(1, replicas)
        while missing > 0 and tries < MAX_PROBES:
            count = min(missing, MAX_PROBES - tries)
            tries += count
            answers = await asyncio.gather(*(self._probe() for _ in range(count)))
            found |= {report.replica: report for report in answers if report is not None}
            if None in answers:
                return found, False
            missing = replicas - len(found)
        return found, True
