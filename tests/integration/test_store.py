# SPDX-License-Identifier: Apache-2.0
"""The data plane's Weaviate module against the real server: what a build writes, what a search finds."""

import hashlib
import re
import secrets
import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest
from pydantic import SecretStr

from lateen_api import names
from lateen_api.catalog import Index
from lateen_api.index_build import BuildReport
from lateen_serving import errors
from lateen_serving.rag.protocol import BuildFailure, Chunk, Entry, Stamp
from lateen_serving.rag.retrieve import Retriever
from lateen_serving.rag.retry import Patience
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.settings import ServingSettings
from stack.local import LocalStack
from stack.parts import Weaviate

TEXTS = ["The office opens at nine.", "Lunch is served at noon.", "Trains are booked before flights."]


@pytest.fixture(scope="module")
def settings(stack: LocalStack) -> ServingSettings:
    """How to reach the stack's Weaviate."""
    return ServingSettings(
        weaviate_url=f"http://127.0.0.1:{stack.ports.weaviate}",
        weaviate_grpc_port=stack.ports.weaviate_grpc,
        weaviate_api_key=SecretStr(stack.secrets.weaviate_key),
    )


@pytest.fixture
async def connection(settings: ServingSettings) -> AsyncIterator[Connection]:
    """An open connection."""
    made = Connection(settings)
    yield made
    await made.aclose()


@pytest.fixture
async def collection(connection: Connection) -> AsyncIterator[str]:
    """Name of a collection that is removed afterwards, with its ledger and its alias `NAME_live`."""
    name = f"Store_test_{secrets.token_hex(4)}"
    yield name
    client = await connection.client()
    await client.alias.delete(alias_name=f"{name}_live")
    await client.collections.delete([name, names.ledger_collection(name)])


@pytest.fixture
async def store(connection: Connection, collection: str) -> WeaviateStore:
    """A store whose collections exist; made twice, which must be harmless."""
    made = WeaviateStore(connection, collection, "cosine")
    await made.ensure()
    await made.ensure()
    return made


def vector(text: str) -> list[float]:
    """A unit vector of the words of a text."""
    found = np.zeros(16, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()):
        found[hashlib.sha256(word.encode()).digest()[0] % 16] += 1
    return [float(value) for value in found / np.linalg.norm(found)]


def chunk(document: str, position: int, text: str, content: str = "1") -> Chunk:
    """A chunk of source `s`."""
    return Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{document}{position}{content}")),
        document_id=f"s/{document}", source="s", path=document, title=document, heading="Top > Sub",
        position=position, text=text, content_hash=content, uri=f"inline:s/{document}", embedded=text, tokens=5,
    )  # fmt: skip


async def put(store: WeaviateStore, *chunks: Chunk) -> None:
    """Write chunks with the vectors of their texts."""
    await store.put_chunks(chunks, np.array([vector(item.text) for item in chunks], dtype=np.float32))


async def test_chunks_are_replaced_and_removed_by_document(store: WeaviateStore) -> None:
    """Writing twice keeps one; stale chunks and those of removed documents go, the others stay."""
    await put(
        store, chunk("a", 0, "one"), chunk("a", 1, "two"), chunk("b", 0, "three"), chunk("c", 0, "four")
    )
    await put(store, chunk("a", 0, "one"))
    assert await store.count() == 4
    await put(store, chunk("a", 0, "new", content="2"))
    await store.drop_stale("s/a", "2")
    assert await store.count_by_document() == {"s/a": 1, "s/b": 1, "s/c": 1}
    await store.drop_chunks(["s/b", "s/unknown"])
    assert await store.count_by_document() == {"s/a": 1, "s/c": 1}
    assert await store.count() == 2


async def test_more_documents_than_a_request_or_a_page_holds(store: WeaviateStore) -> None:
    """Batches and pages are invisible to the caller."""
    entries = [Entry(f"s/{number}", "1", 1, 2) for number in range(1203)]
    await store.put_entries(entries)
    assert await store.entries() == {entry.document_id: entry for entry in entries}
    await store.drop_entries([entry.document_id for entry in entries[3:]])
    assert sorted(await store.entries()) == ["s/0", "s/1", "s/2"]


async def test_the_ledger_keeps_entries_stamp_and_report_apart(
    store: WeaviateStore, collection: str, weaviate: Weaviate
) -> None:
    """Each is read back as written; an entry replaces the one of the same document; the operator finds the report."""
    assert await store.stamp() is None
    stamp = Stamp("minilm", "r1", 16)
    report = BuildReport(
        fingerprint="f", started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z",
        documents=1, chunks=2, tokens=3, embedded=2, removed=0, failed=0, commits={"s": "abc"},
    )  # fmt: skip
    await store.put_stamp(stamp)
    await store.put_report(report)
    await store.put_entries([Entry("s/a", "", 0, 0), Entry("s/report", "1", 1, 1)])
    await store.put_entries([Entry("s/a", "2", 2, 10)])
    assert await store.entries() == {
        "s/a": Entry("s/a", "2", 2, 10),
        "s/report": Entry("s/report", "1", 1, 1),
    }
    assert await store.stamp() == stamp
    assert BuildReport.model_validate(weaviate.report(collection)) == report


async def test_a_refused_object_is_an_error(connection: Connection, collection: str) -> None:
    """An object that Weaviate refuses inside an accepted batch is noticed: here a vector of the wrong length."""
    patience = Patience("StoreUnavailable", attempt_seconds=10, total_seconds=0)
    store = WeaviateStore(connection, collection, "cosine", patience)
    await store.ensure()
    await put(store, chunk("a", 0, "one"))
    with pytest.raises(BuildFailure, match="not stored"):
        await store.put_chunks([chunk("b", 0, "x")], np.ones((1, 3), dtype=np.float32))


@pytest.mark.parametrize("distance", ["cosine", "dot", "l2-squared"])
@pytest.mark.parametrize("mode", ["Hybrid", "Vector", "Keyword"])
async def test_every_mode_finds_the_right_passage_first(
    settings: ServingSettings, connection: Connection, collection: str, mode: str, distance: str
) -> None:
    """Through the alias, for every distance: best first, scores from 0 to 1, the citation complete."""
    store = WeaviateStore(connection, collection, distance)
    await store.ensure()
    await put(store, *(chunk(f"{number}.md", number, text) for number, text in enumerate(TEXTS)))
    client = await connection.client()
    await client.alias.create(alias_name=f"{collection}_live", target_collection=collection)
    retriever = Retriever(settings)
    found = await retriever.search(_index(collection, mode), "when is lunch served", vector(TEXTS[1]), 2)
    await retriever.aclose()
    assert found[0].document_id == "s/1.md"
    assert (found[0].filename, found[0].heading, found[0].position) == ("1.md", "Top > Sub", 1)
    assert (found[0].text, found[0].uri) == (TEXTS[1], "inline:s/1.md")
    scores = [passage.score for passage in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert len(found) <= 2


@pytest.mark.parametrize("mode", ["Hybrid", "Vector", "Keyword"])
async def test_a_missing_alias_is_not_found(settings: ServingSettings, mode: str) -> None:
    """An alias that does not exist is NotFound, not an outage."""
    retriever = Retriever(settings)
    with pytest.raises(errors.NotFound):
        await retriever.search(_index("Store_test_nothing", mode), "q", [1.0] * 16, 3)
    await retriever.aclose()


async def test_a_wrong_key_is_refused_without_repeating(settings: ServingSettings, collection: str) -> None:
    """A refusal ends a build at once with a reason instead of two minutes of attempts."""
    connection = Connection(settings.model_copy(update={"weaviate_api_key": SecretStr("wrong")}))
    with pytest.raises(BuildFailure) as failure:
        await WeaviateStore(connection, collection, "cosine").ensure()
    await connection.aclose()
    assert failure.value.reason == "BuildFailed"


def _index(collection: str, mode: str) -> Index:
    return Index.model_validate(
        {"id": "i", "alias": f"{collection}_live", "collection": collection, "revision": "r", "embedder": "m",
         "embedderRevision": "r", "embedderApplication": "a", "retrieval": {"mode": mode}, "created": 0}
    )  # fmt: skip
