# SPDX-License-Identifier: Apache-2.0
"""How the operator looks at a Weaviate that does not answer."""

import asyncio
from typing import Any

import pytest

from lateen_operator import weaviate
from lateen_operator.seams import StoreState
from lateen_operator.settings import OperatorSettings
from lateen_operator.weaviate import WeaviateStore


class Hanging(WeaviateStore):
    """Weaviate as a stopped process: it takes connections and says nothing, until it goes on."""

    def __init__(self) -> None:
        super().__init__(OperatorSettings())
        self.goes_on = asyncio.Event()

    async def _do(self, *_: Any) -> Any:
        await self.goes_on.wait()
        return StoreState(aliases={"a": "b"})


async def test_a_look_at_a_weaviate_that_hangs_ends_and_the_next_ends_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each pass makes one, also for models and prompts: they must not wait long for what they don't need."""
    monkeypatch.setattr(weaviate, "PATIENT", 0.02)
    monkeypatch.setattr(weaviate, "IMPATIENT", 0.01)
    store = Hanging()
    assert "within 0.02 s" in (await store.observe()).problem
    assert "within 0.01 s" in (await store.observe()).problem
    store.goes_on.set()
    assert (await store.observe()) == StoreState(aliases={"a": "b"})
    store.goes_on.clear()
    assert "within 0.02 s" in (await store.observe()).problem
