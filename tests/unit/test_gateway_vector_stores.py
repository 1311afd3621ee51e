# SPDX-License-Identifier: Apache-2.0
"""Lists of indexes and of their documents, page by page, through the official client."""

from datetime import datetime
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.index_build import BuildReport, DocumentFailure
from lateen_serving.rag import ids, listing
from lateen_serving.rag.listing import IndexedDocument, Told
from lateen_serving.rag.pushes import Push
from unit.gateway_fakes import World, index


def report(*failed: str) -> BuildReport:
    """A build's report in which documents failed."""
    failures = [DocumentFailure(document=name, reason="NotText", message="binary.") for name in failed]
    return BuildReport(
        fingerprint="f", started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T00:00:01+00:00",
        documents=1, chunks=2, tokens=3, embedded=2, removed=0, failed=len(failures), failures=failures,
    )  # fmt: skip


@pytest.fixture
def world() -> World:
    """Five indexes and three documents."""
    world = World()
    world.accept(indexes=[index(f"i{number}") | {"created": number} for number in range(5)])
    failure = DocumentFailure(document="s/c.bin", reason="NotText", message="binary.")
    world.search.held["i0"] = [
        IndexedDocument("s/a/deep.md", 100, chunks=2, tokens=30),
        IndexedDocument("s/b.md", 101, is_pending=True),
        IndexedDocument("s/c.bin", 102, failure=failure),
    ]
    return world


@pytest.mark.parametrize(("order", "expected"), [("asc", "01234"), ("desc", "43210")])
async def test_indexes_come_page_by_page(world: World, order: Any, expected: str) -> None:
    """The client's own paging sees each once, by time of creation."""
    found = [one.id async for one in world.client().vector_stores.list(limit=2, order=order)]
    assert found == [f"i{number}" for number in expected]


async def test_a_page_says_whether_there_is_more(world: World) -> None:
    """First and last id, and `has_more` only where it is so."""
    async with world.http() as http:
        first = (await http.get("/v1/vector_stores?limit=3&order=asc")).json()
        last = (await http.get("/v1/vector_stores?limit=2&order=asc&after=i2")).json()
    assert (first["first_id"], first["last_id"], first["has_more"]) == ("i0", "i2", True)
    assert (last["first_id"], last["last_id"], last["has_more"]) == ("i3", "i4", False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=none", "after"),
        ("before=i1", "before"),
        ("filter=completed", "filter"),
        ("page=2", "page"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(world: World, query: str, param: str) -> None:
    """400 and the parameter."""
    async with world.http() as http:
        reply = await http.get(f"/v1/vector_stores?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_documents_are_listed_with_their_status(world: World) -> None:
    """Each document of an index: indexed, under way, or failed and why."""
    client = world.client()
    found = [one async for one in client.vector_stores.files.list("i0", limit=1, order="asc")]
    assert [(one.id, one.status) for one in found] == [
        ("s/a/deep.md", "completed"), ("s/b.md", "in_progress"), ("s/c.bin", "failed"),
    ]  # fmt: skip
    assert found[0].attributes == {"source": "s", "filename": "a/deep.md", "chunks": 2, "tokens": 30}
    assert found[2].last_error is not None
    assert (found[2].last_error.code, found[2].last_error.message) == ("unsupported_file", "NotText: binary.")


async def test_a_document_is_found_by_its_id(world: World) -> None:
    """The id is a path; an unknown one is a 404 that says where to look."""
    client = world.client()
    one = await client.vector_stores.files.retrieve("s/a/deep.md", vector_store_id="i0")
    assert (one.id, one.created_at, one.vector_store_id) == ("s/a/deep.md", 100, "i0")
    for store, code in (("i0", "file_not_found"), ("none", "vector_store_not_found")):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.vector_stores.files.retrieve("s/none", vector_store_id=store)
        assert caught.value.code == code


async def test_documents_are_listed_backwards_and_by_status(world: World) -> None:
    """`before` gives the page in front of a document, in the list's order; `filter` only those of a status."""
    files = world.client().vector_stores.files
    before = await files.list("i0", before="s/c.bin", limit=2, order="asc")
    assert ([one.id for one in before.data], before.has_more) == (["s/a/deep.md", "s/b.md"], False)
    nearest = await files.list("i0", before="s/c.bin", limit=1, order="asc")
    assert ([one.id for one in nearest.data], nearest.has_more) == (["s/b.md"], True)
    statuses: list[Any] = ["completed", "in_progress", "failed", "cancelled"]
    found = {status: [one.id async for one in files.list("i0", filter=status)] for status in statuses}
    assert list(found.values()) == [["s/a/deep.md"], ["s/b.md"], ["s/c.bin"], []]


@pytest.mark.parametrize(
    ("query", "param"), [("before=a&after=b", "before"), ("filter=done", "filter"), ("limit=0", "limit")]
)
async def test_a_wrong_query_for_documents_is_refused_by_name(world: World, query: str, param: str) -> None:
    """400 and the parameter."""
    async with world.http() as http:
        reply = await http.get(f"/v1/vector_stores/i0/files?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


@given(
    held=st.sets(st.sampled_from("abcdefgh")), failed=st.sets(st.sampled_from("abcdefgh")),
    size=st.integers(1, 4), descending=st.booleans(),
)  # fmt: skip
def test_spans_of_held_and_failed_documents_join_without_gap(
    held: set[str], failed: set[str], size: int, *, descending: bool
) -> None:
    """Span after span, every document comes once and in order, failed ones that were never indexed included."""
    everything = sorted((f"s/{name}" for name in held | failed), reverse=descending)
    ledger = sorted((f"s/{name}" for name in held), reverse=descending)
    told = Told(report("s", *(f"s/{name}" for name in failed)))
    seen: list[IndexedDocument] = []
    after: str | None = None
    while True:
        behind = [name for name in ledger if after is None or (name < after if descending else name > after)]
        rows = [IndexedDocument(name, 1) for name in behind[:size]]
        end = rows[-1].id if len(rows) == size else None
        seen += listing.span(rows, told, after, end, descending=descending)
        after = end
        if end is None:
            break
    assert [one.id for one in seen] == everything


def test_pushed_documents_have_a_status_before_and_after_their_build() -> None:
    """In progress until a build has seen them; then completed, failed with its reason, or failed without one."""
    known = {letter: ids.of_document("s", f"file-{letter * 32}") for letter in "abcd"}
    pushed = {key: Push(ids.public(key), "x.md", 3, "", 5000, 9000) for key in known.values()}
    held = [IndexedDocument(known["a"], 1, chunks=2), IndexedDocument(known["d"], 1, is_pending=True)]
    told = Told(report(known["b"]), pushed)
    statuses = [one.status for one in listing.span(held, told, None, None, descending=False)]
    assert statuses == ["completed", "failed", "in_progress", "in_progress"]
    settled = listing.span(
        held, Told(report(known["b"]), pushed, is_settled=True), None, None, descending=False
    )
    assert [one.status for one in settled] == ["completed", "failed", "failed", "in_progress"]
    assert settled[2].failure is not None
    assert settled[2].push is not None


def test_what_is_pushed_again_is_in_progress_again() -> None:
    """Whatever the last build made of it; until the next one has indexed it, or seen all there is."""
    letters = [ids.of_document("s", f"file-{letter * 32}") for letter in "abcd"]
    told = report(*letters[:2])
    now = int(datetime.fromisoformat(told.started_at).timestamp()) + 60
    pushed = {key: Push(ids.public(key), "x.md", 3, "", 5000, now * 1000) for key in letters}
    held = [IndexedDocument(letters[2], now - 90), IndexedDocument(letters[3], now + 1)]
    shown = listing.span(held, Told(told, pushed), None, None, descending=False)
    assert [one.status for one in shown] == ["in_progress", "in_progress", "in_progress", "completed"]
    seen = listing.span(held, Told(told, pushed, is_settled=True), None, None, descending=False)
    assert [one.status for one in seen] == ["failed", "failed", "completed", "completed"]


def test_what_a_client_has_taken_out_is_not_listed() -> None:
    """Also while it is still indexed; an index that keeps its documents shows it."""
    held = [IndexedDocument(ids.of_document("s", "file-" + "a" * 32), 1), IndexedDocument("s/b.md", 1)]
    shown = listing.span(held, Told(keeps=False), None, None, descending=False)
    assert [one.id for one in shown] == ["s/b.md"]
    assert len(listing.span(held, Told(keeps=True), None, None, descending=False)) == 2
