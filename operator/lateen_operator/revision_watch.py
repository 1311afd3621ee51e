# SPDX-License-Identifier: Apache-2.0
"""Keeps `Revisions` true: a watch of what is labelled as ours, and a new list when it can't go on. Run by `main.py`.

    listed --watch from the list's version--> told, told, ... --ended in time, or broken off--> watch from there
                                                              --that is too long ago--> list anew

Kopf would watch, list whole and remember the ControllerRevisions of everybody: it can't select by label.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import structlog

from lateen_operator.informer import Informer
from lateen_operator.revisions import Revisions
from lateen_operator.seams import REVISIONS, Cluster, Expired, Unavailable

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
"""Seconds between attempts at a watch that tells nothing: doubling from the first to the longest."""

log = structlog.get_logger(__name__)


class RevisionWatch:
    """Follows the ControllerRevisions of each scope.

    Args:
        cluster: Where they are.
        revisions: Listed already; kept true here.
        informer: Told of each change, and of what a new list put right.
        sleep: Waits so many seconds.

    """

    def __init__(
        self,
        cluster: Cluster,
        revisions: Revisions,
        informer: Informer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster, self._revisions, self._informer, self._sleep = cluster, revisions, informer, sleep

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as watches:
            for scope in self._revisions.scopes:
                watches.create_task(self._follow(scope))

    async def _follow(self, scope: str) -> None:
        since, attempts = self._revisions.listed(scope), 0
        while True:
            try:
                since = since or await self._informer.relist_revisions(scope)
                changes = self._cluster.watch_revisions(scope, since)
                async with contextlib.aclosing(changes):
                    async for change in changes:
                        since, attempts = change.version, 0
                        self._informer.seen_revision(change)
            except Expired as error:
                since = ""
                log.info("a watch begins anew with a list", kind=REVISIONS, error=str(error))
            except Unavailable as error:
                log.warning("a watch broke off", kind=REVISIONS, error=str(error))
            await self._sleep(_pause(attempts))
            attempts += 1


def _pause(attempts: int) -> float:
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts, 16))
    return longest * random.uniform(0.75, 1.25)  # noqa: S311  # spreads load, guards nothing
