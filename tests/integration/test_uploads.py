# SPDX-License-Identifier: Apache-2.0
"""Uploaded files and what is pushed into an index, against the real Weaviate: what is written, read back and swept."""

import secrets
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from lateen_api import rag_index
from lateen_api.catalog import Index, Pushed
from lateen_api.index_build import BuildReport, SourceReport
from lateen_serving import errors
from lateen_serving.rag import ids, pushes
from lateen_serving.rag.file_store import Bounds, File, FileStore
from lateen_serving.rag.listing import Wanted
from lateen_serving.rag.protocol import Entry
from lateen_serving.rag.push import WeaviatePushed
from lateen_serving.rag.retrieve import Retriever
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.rag.uploads import Uploads
from lateen_serving.settings import ServingSettings
from stack.local import LocalStack

PARTS = [b"\x00\xff" * 2**19, b"b" * 2**20, b"c" * 100]
CONTENT = b"".join(PARTS)


@pytest.fixture(scope="module")
def settings(stack: LocalStack) -> ServingSettings:
    """How to reach the stack's Weaviate."""
    return ServingSettings(
        weaviate_url=f"http://127.0.0.1:{stack.ports.weaviate}",
        weaviate_grpc_port=stack.ports.weaviate_grpc,
        weaviate_api_key=SecretStr(stack.secrets.weaviate_key),
    )


@pytest.fixture
async def index(settings: ServingSettings) -> AsyncIterator[Index]:
    """An index whose collections are removed afterwards."""
    name = f"Uploads_test_{secrets.token_hex(4)}"
    pushed = Pushed(source="docs", collection=f"{name}_pushed", max_document_bytes=1)
    yield Index.model_validate(
        {"id": "i", "alias": f"{name}_live", "collection": name, "revision": "r", "embedder": "m",
         "embedderRevision": "r", "embedderApplication": "a", "retrieval": {}, "created": 0, "pushed": pushed}
    )  # fmt: skip
    connection = Connection(settings)
    await (await connection.client()).collections.delete([name, f"{name}_ledger", pushed.collection])
    await connection.aclose()


async def given(*parts: bytes) -> AsyncIterator[bytes]:
    """Parts of a file."""
    for part in parts:
        yield part


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    """Parts of a file whose sender goes away."""
    for part in parts:
        yield part
    raise ConnectionResetError


async def test_files_are_kept_whole_or_not_at_all(settings: ServingSettings) -> None:
    """Read back as they were sent, in pages by time; an upload that was cut off is not seen, and swept an hour later."""
    now, purpose = 1_700_000_000.0, f"test{secrets.token_hex(4)}"
    uploads = Uploads(settings, lambda: now)
    made = []
    for number in range(3):
        now += 1
        made.append(await uploads.put(f"{number}.bin", purpose, len(CONTENT), given(*PARTS)))
    assert b"".join([part async for part in uploads.parts(made[0])]) == CONTENT
    assert await uploads.get(made[1].id) == made[1]
    first = await uploads.page(None, 2, descending=True, purpose=purpose)
    assert first == made[:0:-1]
    assert await uploads.page(first[-1], 2, descending=True, purpose=purpose) == made[:1]

    connection = Connection(settings)
    store = FileStore(connection, Bounds(10**6, 10**12), lambda: now)
    half = File(ids.new_file(), "half", purpose, len(CONTENT), 0)
    with pytest.raises(ConnectionResetError):
        await store.put(half, broken(PARTS[0]))
    assert await store.get(half.id) is None
    assert await store.missing([half.id, made[0].id]) == {half.id}
    now += 4000
    made.append(await uploads.put("later.bin", purpose, 1, given(b"x")))
    with pytest.raises(errors.NotFound):
        _ = [part async for part in store.parts(half)]

    with pytest.raises(errors.InputError, match="at most 1 files"):
        await FileStore(connection, Bounds(1, 10**12)).put(half, given(b"x"))
    for file in made:
        await uploads.delete(file.id)
    assert await uploads.page(None, 10, descending=True, purpose=purpose) == []
    await connection.aclose()
    await uploads.aclose()


async def test_every_change_of_what_is_pushed_is_seen(settings: ServingSettings, index: Index) -> None:
    """Put in, put in again with other attributes, taken out: each gives another state; forgetting what is gone none."""
    assert index.pushed is not None
    connection, uploads = Connection(settings), Uploads(settings)
    pushed = WeaviatePushed(connection, index.pushed.collection, 1)
    file = await uploads.put("a.md", "assistants", 5, given(b"zebra"))
    with pytest.raises(errors.Unavailable):
        await uploads.attach(index.pushed, file, {})
    assert await pushed.state() is None
    await pushed.begin()
    states = [await pushed.state()]
    other = File(ids.new_file(), "other.md", "assistants", 5, 1)
    for one, level in ((file, 3), (other, 3), (other, 4)):
        await uploads.attach(index.pushed, one, {"level": level})
        states.append(await pushed.state())
    await uploads.detach(index.pushed, other.id)
    assert not await uploads.attached(index.pushed, other.id)
    await uploads.attach(index.pushed, other, {})
    states.append(await pushed.state())
    assert len(set(states)) == len(states)
    (only,), state = await pushed.documents()  # the other one's bytes were never uploaded
    assert state == await pushed.state()
    assert (only.file, only.attributes) == (file.id, {"level": 3})
    assert await pushed.read(only) == b"zebra"
    await uploads.detach(index.pushed, other.id)
    state = await pushed.state()
    await pushes.purge(connection, index.pushed.collection, 10**15)
    assert await pushed.state() == state
    await uploads.delete(file.id)
    assert await pushed.documents() == ([], state)
    with pytest.raises(FileNotFoundError):
        await pushed.read(only)
    await connection.aclose()
    await uploads.aclose()


async def test_pushed_documents_are_listed_with_those_of_the_ledger(
    settings: ServingSettings, index: Index
) -> None:
    """One list by id in both directions; pushed ones are in progress until a build has seen all there is."""
    assert index.pushed is not None
    connection, uploads, retriever = Connection(settings), Uploads(settings), Retriever(settings)
    pushed = WeaviatePushed(connection, index.pushed.collection, 1)
    store = WeaviateStore(connection, index.collection, rag_index.Store())
    await pushed.begin()
    await store.ensure()
    files = [File(ids.new_file(), f"{n}.md", "assistants", 5, 1) for n in range(4)]
    inside = [ids.of_document("docs", file.id) for file in files]
    for file in files[:3]:
        await uploads.attach(index.pushed, file, {})
    await store.put_entries([Entry(key, "1", 2, 9) for key in ("a/1.md", inside[0], inside[3], "z/1.md")])
    expected = sorted(
        ["a/1.md", *inside[:3], "z/1.md"]
    )  # without the last file, which is not pushed any more
    for descending in (False, True):
        seen: list[str] = []
        has_more = True
        while has_more:
            wanted = Wanted(2, seen[-1] if seen else None, descending=descending)
            page = await retriever.documents(index, wanted)
            seen, has_more = [*seen, *(one.id for one in page.documents)], page.has_more
        assert seen == sorted(expected, reverse=descending)
    before = await retriever.documents(index, Wanted(2, before="z/1.md"))
    assert [one.id for one in before.documents] == expected[-3:-1]
    coming = await retriever.documents(index, Wanted(9, status="in_progress"))
    assert {one.id for one in coming.documents} == set(inside[1:3])
    await store.put_report(_report(await pushed.state() or ""))
    settled = await retriever.document(index, inside[1])
    assert settled is not None
    assert settled.status == "failed"
    assert await retriever.document(index, inside[3]) is None
    await connection.aclose()
    await uploads.aclose()
    await retriever.aclose()


def _report(state: str) -> BuildReport:
    at = "2026-01-01T00:00:00+00:00"
    return BuildReport(
        fingerprint="f", started_at=at, finished_at=at, documents=1, chunks=2, tokens=3, embedded=2, removed=0, failed=0,
        sources=[SourceReport(name="docs", documents=1, cursor=state)],
    )  # fmt: skip
