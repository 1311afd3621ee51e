# SPDX-License-Identifier: Apache-2.0
"""Facts of a model on their way to the gateway, without Ray."""

from collections.abc import Iterable

import pytest
from ray.experimental import internal_kv

from lateen_api.gateway_report import AdapterFact, Facts
from lateen_serving import facts
from lateen_serving.facts import Living, Record, settled

FACTS = Facts(
    parameters=10,
    context_tokens=64,
    dtype="float32",
    memory_bytes=1000,
    load_seconds=1.5,
    engine="transformers",
    engine_reason="the replica has no GPU",
    adapters={"red": AdapterFact(identity="1")},
)


class Store(dict[tuple[str, str], bytes]):
    """What stands for Ray's key-value store: values by namespace and key. It counts what it is asked."""

    asked = 0

    def put(self, key: str, value: str, *, namespace: str) -> bool:
        self.asked += 1
        self[namespace, key] = value.encode()
        return True

    def names(self, prefix: str, *, namespace: str) -> list[bytes]:
        self.asked += 1
        return [key.encode() for place, key in self if place == namespace and key.startswith(prefix)]

    def delete(self, key: str, *, namespace: str) -> int:
        self.asked += 1
        return int(self.pop((namespace, key), None) is not None)

    def internal_kv_multi_get(self, keys: Iterable[bytes], namespace: bytes) -> dict[bytes, bytes]:
        self.asked += 1
        places = {key: (namespace.decode(), key.decode()) for key in keys}
        return {key: self[place] for key, place in places.items() if place in self}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty one."""
    store = Store()
    for name, function in {"put": store.put, "list": store.names, "del": store.delete}.items():
        monkeypatch.setattr(internal_kv, f"_internal_kv_{name}", function)
    monkeypatch.setattr(internal_kv, "internal_kv_get_gcs_client", lambda: store)
    return store


@pytest.mark.parametrize(("replicas", "questions"), [(0, 1), (1, 2), (40, 2)])
async def test_reading_asks_ray_twice(store: Store, replicas: int, questions: int) -> None:
    """Once for the names and once for all that they hold, however many replicas have said something."""
    for number in range(replicas):
        await facts.publish("one", f"r{number}", FACTS)
    store.asked = 0
    assert len(await facts.read()) == replicas
    assert store.asked == questions


async def test_a_record_that_goes_meanwhile_is_gone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted between the two questions is left out."""
    await facts.publish("one", "a", FACTS)
    listed = store.names("lateen:facts:", namespace="lateen")
    await facts.publish("one", "b", FACTS)
    monkeypatch.setattr(
        internal_kv, "_internal_kv_list", lambda *_, **__: [*listed, b"lateen:facts:one:gone"]
    )
    assert [each.replica for each in await facts.read()] == ["a"]


async def test_what_is_published_is_read_and_forgotten(store: Store) -> None:
    """Each replica has facts of its own under the agreed key, and its last ones count."""
    await facts.publish("one", "a", FACTS.model_copy(update={"parameters": 9}))
    await facts.publish("one", "a", FACTS)
    await facts.publish("one", "b", FACTS)
    records = await facts.read()
    assert [(each.application, each.replica, each.facts) for each in records] == [
        ("one", "a", FACTS),
        ("one", "b", FACTS),
    ]
    await facts.forget(records[:1])
    assert [key for _, key in store] == ["lateen:facts:one:b"]


async def test_facts_of_another_version_are_none(store: Store) -> None:
    """They are no failure, and are known as a replica's own."""
    await facts.publish("one", "a", FACTS)
    for key in store:
        store[key] = b'{"odd": 1}'
    assert await facts.read() == [Record("one", "a", 0.0, None)]


async def test_without_ray_publishing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no Ray runs it is tried some times, logged, and given up."""
    monkeypatch.setattr(facts, "_PAUSES_SECONDS", (0.0,))
    await facts.publish("one", "a", FACTS)


def record(replica: str, said_at: float = 1.0, application: str = "one", **adapters: str) -> Record:
    """What a replica said: of each adapter why it failed, or an empty text."""
    found = {name: AdapterFact(identity="1", reason=reason) for name, reason in adapters.items()}
    return Record(application, replica, said_at, FACTS.model_copy(update={"adapters": found}))


def adapters(found: facts.Settled) -> dict[str, str]:
    """Adapters of the application `one`, with why they failed."""
    return {name: fact.reason for name, fact in found.facts["one"].adapters.items()}


SERVING = {"one": Living(frozenset("ab"))}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record("a", red="", blue=""), record("b", red="")], {"red": ""}),
        ([record("a", red=""), record("b", red="SourceNotFound")], {"red": "SourceNotFound"}),
        ([record("a", red="")], {}),
        ([record("a", red=""), record("b", red=""), record("gone", red="CacheFull")], {"red": ""}),
    ],
)
def test_an_adapter_is_loaded_where_every_serving_replica_has_it(
    records: list[Record], expected: dict[str, str]
) -> None:
    """One failure is told, one that has not said so counts as not loaded, and those that are gone don't count."""
    assert adapters(settled(records, SERVING)) == expected


def test_what_is_out_of_date_is_gone() -> None:
    """Replicas that Ray does not know, and all of an application it does not know; those that start stay."""
    living = {"one": Living(frozenset("a"), frozenset("s"))}
    records = [record("a"), record("s"), record("x"), record("y", application="other")]
    found = settled(records, living)
    assert [(each.application, each.replica) for each in found.gone] == [("one", "x"), ("other", "y")]
    assert list(found.facts) == ["one"]


def test_the_last_word_of_a_sleeping_model_stays() -> None:
    """It tells how long a start takes; older ones go."""
    found = settled([record("old", 1.0), record("last", 2.0, red="")], {"one": Living()})
    assert adapters(found) == {"red": ""}
    assert [each.replica for each in found.gone] == ["old"]
