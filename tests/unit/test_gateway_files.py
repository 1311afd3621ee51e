# SPDX-License-Identifier: Apache-2.0
"""Uploading files and putting them into indexes, through the official client."""

import asyncio
from typing import Any

import openai
import pytest

from lateen_api.catalog import Pushed
from lateen_serving import errors
from lateen_serving.rag.listing import IndexedDocument
from unit.gateway_fakes import LARGEST_FILE, World, index, passage, taking

PUSHED = Pushed(source="docs", collection="inbox_pushed", max_document_bytes=1000)


@pytest.fixture
def world() -> World:
    """An index that takes files, one that keeps them, and one that takes none."""
    world = World()
    world.accept(indexes=[taking("inbox"), taking("archive", keeps=True), index("handbook")])
    return world


async def uploaded(world: World, name: str = "zebra.md", content: bytes = b"# Zebra") -> str:
    """Id of an uploaded file."""
    file = await world.client().files.create(file=(name, content), purpose="assistants")
    return file.id


async def test_a_file_is_uploaded_read_listed_and_deleted(world: World) -> None:
    """The client's own calls, all of them; afterwards the file is gone."""
    client = world.client()
    made = await client.files.create(file=("z\u00e9bra \u201cone\u201d.md", b"x" * 3000), purpose="user_data")
    assert (made.bytes, made.filename, made.purpose) == (3000, "z\u00e9bra \u201cone\u201d.md", "user_data")
    assert (made.object, made.status, made.expires_at) == ("file", "processed", None)
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.content(made.id)).content == b"x" * 3000
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve(made.id)
    assert caught.value.code == "file_not_found"


async def test_files_come_page_by_page(world: World) -> None:
    """The newest first, or the oldest; of one purpose."""
    made = [await uploaded(world, f"{number}.md") for number in range(5)]
    files = world.client().files
    assert [one.id async for one in files.list(limit=2)] == made[::-1]
    assert [one.id async for one in files.list(limit=2, order="asc", purpose="assistants")] == made
    assert [one.id async for one in files.list(purpose="user_data")] == []
    with pytest.raises(openai.BadRequestError) as caught:
        await files.list(after="file-none")
    assert caught.value.param == "after"


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"files": {"file": ("a.md", b"x")}}, 400, "purpose"),
        ({"files": {"file": ("a.md", b"x")}, "data": {"purpose": "batch"}}, 400, "purpose"),
        ({"files": {"file": ("a.md", b"x"), "purpose": ("b", b"assistants")}}, 400, "purpose"),
        ({"data": {"purpose": "assistants", "file": "text"}, "files": {"other": ("a", b"x")}}, 400, "other"),
        ({"files": {"purpose": (None, b"assistants"), "file": (None, b"text")}}, 400, "file"),
        ({"files": {"purpose": (None, b"assistants")}}, 400, "file"),
        ({"files": {"file": ("a.md", b"")}, "data": {"purpose": "assistants"}}, 400, "file"),
        ({"files": {"file": ("a/b.md", b"x")}, "data": {"purpose": "assistants"}}, 400, "file"),
        ({"files": {"file": ("a" * 256, b"x")}, "data": {"purpose": "assistants"}}, 400, "file"),
        (
            {"files": [("file", ("a", b"x")), ("file", ("b", b"x"))], "data": {"purpose": "assistants"}},
            400,
            "file",
        ),
        (
            {
                "files": {"file": ("a", b"x")},
                "data": {"purpose": "assistants", "expires_after[seconds]": "9"},
            },
            400,
            "expires_after",
        ),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "assistants", "color": "red"}}, 400, "color"),
        (
            {"files": {"file": ("a", b"x" * (LARGEST_FILE + 1))}, "data": {"purpose": "assistants"}},
            413,
            "file",
        ),
        ({"files": {"file": ("a", b"x" * 200_000)}, "data": {"purpose": "assistants"}}, 413, "file"),
        ({"json": {"file": "x"}}, 400, "file"),
        ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data"}}, 400, "file"),
        (
            {"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "file",
        ),
        *(
            (
                {
                    "content": b'--x\r\nContent-Disposition: form-data; name="\\ud800.a"\r\n\r\nx\r\n--x--',
                    "headers": {"content-type": f"multipart/form-data; charset={charset}; boundary=x"},
                },
                400,
                "file",
            )
            for charset in ("punycode", "unicode_escape")
        ),
    ],
)
async def test_a_wrong_upload_is_refused_by_name(
    world: World, form: dict[str, Any], status: int, param: str
) -> None:
    """The field that is wrong, and nothing is kept."""
    async with world.http() as http:
        reply = await http.post("/v1/files", **form)
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert not world.uploads.files


async def test_too_many_uploads_at_once_are_asked_to_come_again(world: World) -> None:
    """503 with `retry-after`, before anything is read."""
    async with world.http() as http:
        slots = world.service.uploading
        taken = [await slots.acquire() for _ in range(4)]
        reply = await http.post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "assistants"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
        assert reply.headers["retry-after"]
        for _ in taken:
            slots.release()
        reply = await http.post("/v1/files", files={"file": ("a", b"x")}, data={"purpose": "assistants"})
    assert reply.status_code == 200


async def test_a_file_becomes_a_document_and_leaves_again(world: World) -> None:
    """Created, polled until a build has indexed it, found with its own id, deleted; the file itself stays."""
    client, stores = world.client(), world.client().vector_stores
    file = await uploaded(world)
    made = await stores.files.create(
        "inbox", file_id=file, attributes={"team": "red", "level": 3, "draft": False}
    )
    assert (made.id, made.status, made.usage_bytes, made.last_error) == (file, "in_progress", 7, None)

    async def build() -> None:
        await world.search.asked.wait()
        world.uploads.done(PUSHED, file)

    world.search.asked.clear()
    polling = stores.files.poll(file, vector_store_id="inbox", poll_interval_ms=1)
    polled, _ = await asyncio.gather(polling, build())
    assert polled.status == "completed"
    expected = {
        "team": "red",
        "level": 3,
        "draft": False,
        "source": "docs",
        "filename": "zebra.md",
        "chunks": 2,
    }
    assert polled.attributes == expected | {"tokens": 30}
    assert [one.id async for one in stores.files.list("inbox")] == [file]
    world.search.passages["inbox"] = [passage(f"docs//{file}", "purple")]
    assert (await stores.search("inbox", query="zebra")).data[0].file_id == file

    gone = await stores.files.delete(file, vector_store_id="inbox")
    assert (gone.id, gone.object, gone.deleted) == (file, "vector_store.file.deleted", True)
    with pytest.raises(openai.NotFoundError):
        await stores.files.delete(file, vector_store_id="inbox")
    assert (await client.files.retrieve(file)).id == file


async def test_attributes_can_be_changed(world: World) -> None:
    """Those that are left out go; the document is built again."""
    files, file = world.client().vector_stores.files, await uploaded(world)
    await files.create("inbox", file_id=file, attributes={"team": "red", "level": 3})
    changed = await files.update(file, vector_store_id="inbox", attributes={"team": "blue"})
    assert changed.attributes is not None
    assert (changed.attributes.get("team"), "level" in changed.attributes) == ("blue", False)
    assert changed.status == "in_progress"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "file_id", "Missing"),
        ({"file_id": 3}, "file_id", "string"),
        ({"chunking_strategy": {"type": "static", "static": {}}}, "chunking_strategy", "Unsupported"),
        ({"color": "red"}, "color", "Unknown"),
        ({"attributes": []}, "attributes", "dict"),
        ({"attributes": {"team": None}}, "attributes", "'team'"),
        ({"attributes": {"team": "x" * 513}}, "attributes", "'team'"),
        ({"attributes": {"size": 2**53}}, "attributes", "'size'"),
        ({"attributes": {"a b": 1}}, "attributes", "letters"),
        ({"attributes": {"source": "web"}}, "attributes", "'source'"),
        ({"attributes": {f"k{number}": 1 for number in range(17)}}, "attributes", "16"),
    ],
)
async def test_a_wrong_document_is_refused_by_name(
    world: World, body: dict[str, Any], param: str, words: str
) -> None:
    """400, the field, and what is wrong with it."""
    file = await uploaded(world)
    sent = body if "file_id" in body or not body else {"file_id": file, **body}
    async with world.http() as http:
        reply = await http.post("/v1/vector_stores/inbox/files", json=sent)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    assert not world.uploads.pushed


async def test_the_automatic_strategy_is_taken(world: World) -> None:
    """It asks for nothing."""
    file = await uploaded(world)
    made = await world.client().vector_stores.files.create(
        "inbox", file_id=file, chunking_strategy={"type": "auto"}
    )
    assert made.id == file


async def test_an_index_without_push_says_what_to_add(world: World) -> None:
    """400 for every change, with the remedy."""
    files, file = world.client().vector_stores.files, await uploaded(world)
    for work in (
        files.create("handbook", file_id=file),
        files.update(file, vector_store_id="handbook", attributes={}),
        files.delete(file, vector_store_id="handbook"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await work
        assert caught.value.code == "vector_store_without_push"
        assert "`push: {}` to spec.sources" in caught.value.message


async def test_what_cannot_be_put_in_or_taken_out_is_said(world: World) -> None:
    """Unknown files and stores, files that are too large, and documents of other sources."""
    files = world.client().vector_stores.files
    with pytest.raises(openai.NotFoundError) as unknown:
        await files.create("inbox", file_id="file-none")
    assert (unknown.value.code, unknown.value.param) == ("file_not_found", "file_id")
    large = await uploaded(world, content=b"x" * 1001)
    with pytest.raises(openai.BadRequestError) as refused:
        await files.create("inbox", file_id=large)
    assert (refused.value.code, refused.value.param) == ("file_too_large", "file_id")
    assert "maxDocumentBytes" in refused.value.message
    with pytest.raises(openai.NotFoundError) as no_store:
        await files.create("none", file_id=large)
    assert no_store.value.code == "vector_store_not_found"
    world.uploads.hold(PUSHED, IndexedDocument("web/a.md", 1))
    with pytest.raises(openai.BadRequestError) as foreign:
        await files.delete("web/a.md", vector_store_id="inbox")
    assert foreign.value.code == "document_not_pushed"


async def test_an_index_that_keeps_its_documents_lets_none_go(world: World) -> None:
    """Neither the document nor its file can be deleted: `sync.deletePolicy` is Keep."""
    client, file = world.client(), await uploaded(world)
    await client.vector_stores.files.create("archive", file_id=file)
    for work in (
        client.vector_stores.files.delete(file, vector_store_id="archive"),
        client.files.delete(file),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await work
        assert caught.value.code == "document_kept"
    assert (await client.files.retrieve(file)).id == file


async def test_a_deleted_file_leaves_every_index(world: World) -> None:
    """As OpenAI has it."""
    client, file = world.client(), await uploaded(world)
    await client.vector_stores.files.create("inbox", file_id=file)
    await client.files.delete(file)
    assert not world.uploads.pushed


async def test_without_weaviate_clients_are_asked_to_come_again(world: World) -> None:
    """503, not a broken reply."""
    world.uploads.error = errors.Unavailable("the vector store does not answer")
    with pytest.raises(openai.InternalServerError) as caught:
        await uploaded(world)
    assert (caught.value.status_code, caught.value.code) == (503, "unavailable")
