# SPDX-License-Identifier: Apache-2.0
"""Facts of a model on their way to the gateway, without Ray."""

import pytest
from ray.experimental import internal_kv

from lateen_api.gateway_report import Facts
from lateen_serving import facts

FACTS = Facts(
    parameters=10,
    context_tokens=64,
    dtype="float32",
    memory_bytes=1000,
    load_seconds=1.5,
    engine="transformers",
    engine_reason="the replica has no GPU",
    adapters={"red": "", "blue": "it does not fit"},
)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], bytes]:
    """What stands for Ray's key-value store."""
    stored: dict[tuple[str, str], bytes] = {}

    def put(key: str, value: str, *, namespace: str) -> bool:
        stored[namespace, key] = value.encode()
        return True

    monkeypatch.setattr(internal_kv, "_internal_kv_put", put)
    monkeypatch.setattr(
        internal_kv, "_internal_kv_get", lambda key, *, namespace: stored.get((namespace, key))
    )
    return stored


async def test_what_is_published_is_read(store: dict[tuple[str, str], bytes]) -> None:
    """Each application has facts of its own under the agreed key, and the last ones count."""
    await facts.publish("one", FACTS.model_copy(update={"parameters": 9}))
    await facts.publish("one", FACTS)
    assert await facts.read("one") == FACTS
    assert await facts.read("two") is None
    assert [key for _, key in store] == ["lateen:facts:one"]


async def test_nothing_raises_for_facts(store: dict[tuple[str, str], bytes]) -> None:
    """Facts of another version are no facts."""
    await facts.publish("one", FACTS)
    for key in store:
        store[key] = b'{"odd": 1}'
    assert await facts.read("one") is None


async def test_without_ray_there_are_no_facts() -> None:
    """Where no Ray runs, publishing and reading are logged and go on."""
    await facts.publish("one", FACTS)
    assert await facts.read("one") is None
