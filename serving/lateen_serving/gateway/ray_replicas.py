# SPDX-License-Identifier: Apache-2.0
"""Ray's word on replicas: the implementation of `replicas.Ray`. Built by `app.py`."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from lateen_api import names
from lateen_serving import facts
from lateen_serving.facts import Census, Living, Record

AnswerT = TypeVar("AnswerT")

_SERVES = ("RUNNING", "UPDATING", "PENDING_MIGRATION")
"""States of a replica that takes requests: one that takes a new user_config goes on serving."""


class RayReplicas:
    """Asks this Ray cluster's key-value store and Serve controller."""

    def __init__(self) -> None:
        self._records = _Question(facts.read)
        self._details = _Question(lambda: asyncio.to_thread(_details))

    async def records(self) -> list[Record]:
        """See `facts.read`."""
        return (await self._records.answer())[1]

    async def living(self) -> Census:
        """The model's replicas of all applications; raises what Ray raises."""
        asked_at, details = await self._details.answer()
        applications = (details.get("applications") or {}).items()
        return Census({name: _living(each) for name, each in applications}, asked_at)

    async def forget(self, records: tuple[Record, ...]) -> None:
        """See `facts.forget`."""
        await facts.forget(records)


class _Question(Generic[AnswerT]):
    """Is asked once at a time, whoever has given up waiting for the answer.

    Ray's answer is waited for in a thread that nothing can interrupt, as long as its key-value store or Serve's controller
    is away. Threads are few, and others need them.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, AnswerT]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[AnswerT] | None = None
        self._asked_at = -math.inf

    async def answer(self) -> tuple[float, AnswerT]:
        """The answer to the question that is under way, or to a new one, after the time at which it was asked (`monotonic`).

        Raises what Ray raises.
        """
        if self._asking is None or self._asking.done():
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_look_at)
        return self._asked_at, await asyncio.shield(self._asking)


def _look_at(asked: asyncio.Task[AnswerT]) -> None:
    """An answer that nobody waits for any more is no unseen failure."""
    if not asked.cancelled():
        asked.exception()


def _details() -> dict[str, Any]:
    """What `serve status` is made of; the public `serve.status()` leaves the replicas' ids out."""
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        raise RayServeException("Ray Serve does not run")
    details: dict[str, Any] = client.get_serve_details()
    return details


def _living(application: Mapping[str, Any]) -> Living:
    deployment = (application.get("deployments") or {}).get(names.MODEL_DEPLOYMENT) or {}
    states = {each["replica_id"]: each["state"] for each in deployment.get("replicas") or []}
    serving = frozenset(replica for replica, state in states.items() if state in _SERVES)
    return Living(serving, frozenset(states) - serving)
