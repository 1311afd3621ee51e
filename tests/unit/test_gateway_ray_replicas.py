# SPDX-License-Identifier: Apache-2.0
"""What Ray's word on replicas means."""

import asyncio
import threading
import time
from typing import Any

import pytest

from lateen_serving import facts
from lateen_serving.facts import Living
from lateen_serving.gateway import ray_replicas


async def test_replicas_that_take_requests_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that start or stop are other ones; applications without models have none of ours."""

    def replicas(**states: str) -> dict[str, Any]:
        return {"replicas": [{"replica_id": name, "state": state} for name, state in states.items()]}

    details = {
        "app": {"deployments": {"Model": replicas(a="RUNNING", b="UPDATING", c="STARTING", d="STOPPING")}},
        "gateway": {"deployments": {"Gateway": replicas(g="RUNNING")}},
    }
    monkeypatch.setattr(ray_replicas, "_details", lambda: {"applications": details})
    assert (await ray_replicas.RayReplicas().living()).replicas == {
        "app": Living(frozenset("ab"), frozenset("cd")),
        "gateway": Living(),
    }


@pytest.mark.parametrize("what", ["living", "records"])
async def test_ray_is_asked_one_question_at_a_time(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Serve's controller or Ray's store is away, those who stopped waiting take no further threads; later its answer
    counts.
    """
    asked: list[None] = []
    answers = threading.Event()

    def answer() -> dict[str, Any]:
        asked.append(None)
        answers.wait(10)
        return {}

    monkeypatch.setattr(ray_replicas, "_details", answer)
    monkeypatch.setattr(facts, "_read", answer)
    ask = getattr(ray_replicas.RayReplicas(), what)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ask()
    answers.set()
    await ask()
    assert len(asked) == 1
    await ask()
    assert len(asked) == 2


async def test_a_late_answer_is_as_old_as_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins a question that is under way learns when it was asked; the next one is asked anew."""
    answers = threading.Event()

    def details() -> dict[str, Any]:
        answers.wait(10)
        return {}

    monkeypatch.setattr(ray_replicas, "_details", details)
    ray = ray_replicas.RayReplicas()
    first = asyncio.create_task(ray.living())
    await asyncio.sleep(0)
    joined_at = time.monotonic()
    second = asyncio.create_task(ray.living())
    await asyncio.sleep(0)
    answers.set()
    assert (await first).asked_at == (await second).asked_at <= joined_at
    assert (await ray.living()).asked_at > joined_at
