# SPDX-License-Identifier: Apache-2.0
"""`/healthz`, `/readyz` and `/metrics`: whether this process is alive and how it does. Wired by `main.py`.

A liveness probe restarts the operator when `/healthz` fails: that must only happen when a restart can help.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web

from lateen_operator.metrics import Metrics
from lateen_operator.seams import WATCHED

LONGEST_RECONCILE = 600.0
"""Seconds after which one reconcile counts as stuck; all I/O in it has time limits that are far shorter."""


@dataclass
class Vitals:
    """Signs of life, kept up to date by `main.py`.

    Args:
        clock: Monotonic seconds.
        stale_after: Seconds that a watch or the resync may be silent.

    """

    clock: Callable[[], float]
    stale_after: float
    leading: bool = False
    """Whether this process holds the Lease; one that waits has nothing to be stale."""

    synced: bool = False
    """Whether everything has been listed once."""

    resynced_at: float = 0.0
    watched_at: dict[str, float] = field(default_factory=dict)
    longest_reconcile: Callable[[], float] = lambda: 0.0

    def lead(self) -> None:
        """From now on this process leads."""
        self.leading = True
        self.resynced_at = self.clock()
        self.watched_at = dict.fromkeys(WATCHED, self.clock())

    def watched(self, kind: str) -> None:
        """The watch of `kind` told something, or is known to have missed nothing."""
        self.watched_at[kind] = self.clock()

    def resynced(self) -> None:
        """A resync came to its end, whatever it found."""
        self.resynced_at = self.clock()

    def watch_age(self, kind: str) -> float:
        """Seconds since the watch of `kind` was known to be fresh; 0 while waiting for the Lease."""
        return self.clock() - self.watched_at.get(kind, self.clock()) if self.leading else 0.0

    def complaints(self) -> list[str]:
        """What a restart may cure; empty when all is well."""
        if not self.leading:
            return []
        stale = [kind for kind in WATCHED if self.watch_age(kind) > self.stale_after]
        found = [f"the watch of kind {kind} is silent or misses changes" for kind in stale]
        if self.clock() - self.resynced_at > self.stale_after:
            found.append("the resync is stuck")
        if self.longest_reconcile() > LONGEST_RECONCILE:
            found.append("a reconcile is stuck")
        return found


def application(vitals: Vitals, metrics: Metrics) -> web.Application:
    """The three pages."""

    async def healthz(_: web.Request) -> web.Response:
        complaints = vitals.complaints()
        body = {"status": "failing" if complaints else "ok", "complaints": complaints}
        return web.json_response(body, status=503 if complaints else 200)

    async def readyz(_: web.Request) -> web.Response:
        # One that waits for the Lease is ready to take over; a rollout of two would never end otherwise.
        starting = vitals.leading and not vitals.synced
        role = "leader" if vitals.leading else "standby"
        status = "starting" if starting else "ready"
        return web.json_response({"status": status, "role": role}, status=503 if starting else 200)

    async def shown(_: web.Request) -> web.Response:
        text = metrics.text()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", shown)])
    return app


@contextlib.asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app` inside the block; yields the port. Raises OSError when it is taken."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
