# SPDX-License-Identifier: Apache-2.0
"""Lists of indexes and of their documents, page by page, through the official client."""

from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.index_build import BuildReport, DocumentFailure
from lateen_serving.rag import listing
from lateen_serving.rag.listing import IndexedDocument
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


@given(
    held=st.sets(st.sampled_from("abcdefgh")), failed=st.sets(st.sampled_from("abcdefgh")),
    limit=st.integers(1, 4), descending=st.booleans(),
)  # fmt: skip
def test_pages_of_held_and_failed_documents_join_without_gap(
    held: set[str], failed: set[str], limit: int, *, descending: bool
) -> None:
    """Page after page, every document comes once and in order, failed ones that were never indexed included."""
    everything = sorted((f"s/{name}" for name in held | failed), reverse=descending)
    ledger = sorted((f"s/{name}" for name in held), reverse=descending)
    told = report("s", *(f"s/{name}" for name in failed))
    seen: list[IndexedDocument] = []
    after, has_more = None, True
    while has_more:
        behind = [name for name in ledger if after is None or (name < after if descending else name > after)]
        rows = [IndexedDocument(name, 1) for name in behind[: limit + 1]]
        page = listing.merged(rows, told, after, limit, descending=descending)
        assert len(page.documents) <= limit
        seen += page.documents
        has_more = page.has_more
        after = page.documents[-1].id if page.documents else None
    assert [one.id for one in seen] == everything
    assert {one.id for one in seen if one.failure} == {f"s/{name}" for name in failed}
