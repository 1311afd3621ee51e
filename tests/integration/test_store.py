# SPDX-License-Identifier: Apache-2.0
"""The data plane's Weaviate module against the real server: what a build writes, what a search finds."""

import hashlib
import re
import secrets
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from lateen_api import names, rag_index
from lateen_api.catalog import Index
from lateen_api.index_build import BuildReport, DocumentFailure
from lateen_serving import errors
from lateen_serving.rag.attributes import Comparison, Compound, Filter, Operator, Value
from lateen_serving.rag.listing import IndexedDocument, Wanted
from lateen_serving.rag.passages import Search
from lateen_serving.rag.protocol import BuildFailure, Chunk, Entry, Stamp
from lateen_serving.rag.retrieve import Retriever
from lateen_serving.rag.retry import Patience
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.settings import ServingSettings
from stack.local import LocalStack
from stack.parts import Weaviate

SETTINGS = rag_index.Store()
STAMP = Stamp("m", "r", 16)
QUESTION = "when is lunch served"
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
    made = WeaviateStore(connection, collection, SETTINGS)
    await made.ensure()
    await made.ensure()
    return made


def vector(text: str) -> list[float]:
    """A unit vector of the words of a text, each of which points to some side in every dimension."""
    found = np.zeros(16, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()):
        found += [-1 if byte < 128 else 1 for byte in hashlib.sha256(word.encode()).digest()[:16]]
    return [float(value) for value in found / np.linalg.norm(found)]


def chunk(document: str, position: int, text: str, content: str = "1", **more: Any) -> Chunk:
    """A chunk of source `s`."""
    return Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{document}{position}{content}")),
        document_id=f"s/{document}", source="s", path=document, title=document, heading="Top > Sub",
        position=position, text=text, content_hash=content, uri=f"inline:s/{document}", embedded=text, tokens=5,
        **more,
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
    store = WeaviateStore(connection, collection, SETTINGS, patience)
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
    store = WeaviateStore(connection, collection, rag_index.Store.model_validate({"distance": distance}))
    await store.ensure()
    await store.put_stamp(STAMP)
    await put(store, *(chunk(f"{number}.md", number, text) for number, text in enumerate(TEXTS)))
    client = await connection.client()
    await client.alias.create(alias_name=f"{collection}_live", target_collection=collection)
    retriever = Retriever(settings)
    found = await retriever.search(_index(collection, mode), Search(QUESTION, vector(TEXTS[1]), 2))
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
        await retriever.search(_index("Store_test_nothing", mode), Search("q", [1.0] * 16, 3))
    await retriever.aclose()


async def test_a_wrong_key_is_refused_without_repeating(settings: ServingSettings, collection: str) -> None:
    """A refusal ends a build at once with a reason instead of two minutes of attempts."""
    connection = Connection(settings.model_copy(update={"weaviate_api_key": SecretStr("wrong")}))
    with pytest.raises(BuildFailure) as failure:
        await WeaviateStore(connection, collection, SETTINGS).ensure()
    await connection.aclose()
    assert failure.value.reason == "BuildFailed"


ABOUT: list[dict[str, Any]] = [
    {"metadata": {"team": "legal", "year": 2024, "final": True}, "language": "en", "page": 3,
     "updated_at": "2023-11-14T22:13:20Z"},
    {"metadata": {"team": "it", "year": -1.5, "final": False}, "language": "en", "page": 12},
    {"metadata": {"team": "It", "year": 10}, "start": 4, "end": 40},
]  # fmt: skip


def is_(key: str, operator: Operator, *values: Value) -> Comparison:
    """A condition on one attribute."""
    return Comparison(key, operator, values)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (is_("team", "eq", "it"), {1}),
        (is_("team", "ne", "it"), {0, 2}),
        (is_("team", "in", "it", "legal"), {0, 1}),
        (is_("team", "nin", "it", "legal"), {2}),
        (is_("year", "gt", 10), {0}),
        (is_("year", "gte", 10), {0, 2}),
        (is_("year", "lt", 10), {1}),
        (is_("year", "lte", 10.0), {1, 2}),
        (is_("year", "eq", 2024), {0}),
        (is_("final", "eq", True), {0}),
        (is_("final", "ne", True), {1, 2}),
        (is_("final", "eq", 1), set()),
        (is_("page", "lt", 12), {0}),
        (is_("updated_at", "gte", 1_600_000_000), {0}),
        (is_("language", "eq", "en"), {0, 1}),
        (is_("filename", "eq", "1.md"), {1}),
        (is_("nothing", "eq", "x"), set()),
        (is_("nothing", "ne", "x"), {0, 1, 2}),
        (Compound("and", (is_("year", "gt", 0), is_("team", "ne", "legal"))), {2}),
        (Compound("or", (is_("year", "lt", 0), Compound("and", (is_("page", "eq", 3),)))), {0, 1}),
    ],
    ids=str,
)
async def test_filters_choose_by_attributes(
    settings: ServingSettings, filled: str, wanted: Filter, expected: set[int]
) -> None:
    """Every operator, on text, numbers, booleans and what every document has; case and kinds are told apart."""
    retriever = Retriever(settings)
    for mode in ("Hybrid", "Vector", "Keyword"):
        question = Search("office lunch trains", vector(TEXTS[0]), 9, filter=wanted)
        found = await retriever.search(_index(filled, mode), question)
        assert {passage.position for passage in found} == expected, mode
    await retriever.aclose()


async def test_a_passage_comes_back_with_all_that_is_known_of_it(
    settings: ServingSettings, filled: str
) -> None:
    """Page, offsets, vector and attributes; what is not known is left out. Places find passages without a search."""
    retriever = Retriever(settings)
    question = Search(QUESTION, vector(TEXTS[0]), 3, with_vectors=True)
    found = {one.position: one for one in await retriever.search(_index(filled, "Hybrid"), question)}
    assert (found[0].page, found[0].start, found[2].page, found[2].start, found[2].end) == (
        3,
        None,
        None,
        4,
        40,
    )
    assert found[0].attributes == {
        "team": "legal", "year": 2024, "final": True, "source": "s", "filename": "0.md", "title": "0.md",
        "uri": "inline:s/0.md", "language": "en", "page": 3, "updated_at": 1_700_000_000,
    }  # fmt: skip
    assert "page" not in found[2].attributes
    assert found[1].tokens == 5
    assert found[0].vector == pytest.approx(vector(TEXTS[0]), abs=1e-6)
    there = await retriever.at(_index(filled, "Hybrid"), [("s/1.md", 1), ("s/1.md", 2), ("s/none", 0)])
    assert [(one.document_id, one.position) for one in there] == [("s/1.md", 1)]
    await retriever.aclose()


@pytest.mark.parametrize("alpha", ["0", "0.5", "1"])
async def test_a_fusion_by_rank_scores_within_bounds(
    settings: ServingSettings, filled: str, alpha: str
) -> None:
    """What is first in both searches scores 1, whatever they weigh."""
    retriever = Retriever(settings)
    index = _index(filled, "Hybrid", alpha=alpha, fusion="Ranked")
    found = await retriever.search(index, Search(TEXTS[1], vector(TEXTS[1]), 3))
    await retriever.aclose()
    assert found[0].document_id == "s/1.md"
    assert found[0].score == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "store",
    [
        {"vectorIndex": "flat"},
        {"vectorIndex": "flat", "compression": "bq"},
        {"vectorIndex": "flat", "compression": "rq"},
        {"compression": "rq"},
        {"compression": "bq"},
        {"compression": "pq"},
        {"shards": 2},
        {"tokenization": "trigram"},
        {"tokenization": "lowercase", "distance": "dot", "compression": "rq"},
    ],
    ids=str,
)
async def test_every_way_to_keep_vectors_finds_them(
    settings: ServingSettings, connection: Connection, collection: str, store: dict[str, Any]
) -> None:
    """The collection is made as asked, and a search of both kinds finds the right passage."""
    made = WeaviateStore(connection, collection, rag_index.Store.model_validate(store))
    await made.ensure()
    await made.put_stamp(STAMP)
    await put(made, *(chunk(f"{number}.md", number, text) for number, text in enumerate(TEXTS)))
    config = await (await connection.collection(collection)).config.get()
    kept = config.vector_config["default"].vector_index_config
    assert config.sharding_config.desired_count == store.get("shards", 1)
    assert kept.vector_index_type() == store.get("vectorIndex", "hnsw")
    assert (kept.quantizer is not None) == ("compression" in store)
    retriever = Retriever(settings)
    for mode in ("Vector", "Keyword"):
        found = await retriever.search(_index(collection, mode), Search("lunch is", vector(TEXTS[1]), 1))
        assert [passage.document_id for passage in found] == ["s/1.md"]
    await retriever.aclose()


@pytest.mark.parametrize(
    ("store", "words"), [({"replicas": 3}, "replic"), ({"vectorIndex": "dynamic"}, "async")]
)
async def test_what_weaviate_can_not_keep_fails_with_its_words(
    connection: Connection, collection: str, store: dict[str, Any], words: str
) -> None:
    """More replicas than nodes, or a dynamic index without ASYNC_INDEXING: the build ends at once and says what is
    wrong, with what helps.
    """
    with pytest.raises(BuildFailure, match=words) as failure:
        await WeaviateStore(connection, collection, rag_index.Store.model_validate(store)).ensure()
    assert failure.value.reason == "StoreUnsupported"
    assert str(failure.value).startswith("spec.store: ")
    assert ("ASYNC_INDEXING=true" in str(failure.value)) == (words == "async")


async def test_documents_are_listed_from_the_ledger(
    settings: ServingSettings, store: WeaviateStore, collection: str
) -> None:
    """In the order of their ids, whatever their letters are, in both directions, page by page, with what failed."""
    ids = ["s/A", "s/Zebra.md", "s/a b", "s/a-b", "s/ab", "s/b/c.md", "s/é", "s/日本"]
    await store.put_entries([Entry(name, "1", 2, 10) for name in ids] + [Entry("s/pending", "")])
    failure = DocumentFailure(document="s/aa", reason="Empty", message="no text")
    report = BuildReport(
        fingerprint="f", started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z",
        documents=1, chunks=2, tokens=3, embedded=2, removed=0, failed=1, failures=[failure],
    )  # fmt: skip
    await store.put_report(report)
    await store.put_stamp(STAMP)
    retriever, index = Retriever(settings), _index(collection, "Vector")
    for descending in (False, True):
        seen: list[IndexedDocument] = []
        has_more = True
        while has_more:
            after = seen[-1].id if seen else None
            page = await retriever.documents(index, Wanted(3, after, descending=descending))
            seen += page.documents
            has_more = page.has_more
        assert [one.id for one in seen] == sorted([*ids, "s/aa", "s/pending"], reverse=descending)
    by_id = {one.id: one for one in seen}
    assert (by_id["s/A"].chunks, by_id["s/A"].tokens, by_id["s/A"].failure) == (2, 10, None)
    assert by_id["s/pending"].is_pending
    assert by_id["s/aa"].failure == failure
    assert await retriever.document(index, "s/A") == by_id["s/A"]
    assert await retriever.document(index, "s/aa") == by_id["s/aa"]
    assert await retriever.document(index, "report") is None
    await retriever.aclose()


@pytest.fixture
async def filled(store: WeaviateStore, collection: str) -> str:
    """Name of a collection with three documents and what is known about them."""
    await store.put_stamp(STAMP)
    texts = enumerate(zip(TEXTS, ABOUT, strict=True))
    await put(store, *(chunk(f"{number}.md", number, text, **about) for number, (text, about) in texts))
    return collection


def _index(collection: str, mode: str, **retrieval: str) -> Index:
    return Index.model_validate(
        {"id": "i", "alias": f"{collection}_live", "collection": collection, "revision": "r", "embedder": "m",
         "embedderRevision": "r", "embedderApplication": "a", "retrieval": {"mode": mode, **retrieval},
         "created": 0}
    )  # fmt: skip
