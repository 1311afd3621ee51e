# SPDX-License-Identifier: Apache-2.0
"""What clients push as a source of builds, with what they pushed in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api import pushing
from lateen_api.index_build import BuildReport, BuildRequest
from lateen_serving.rag import ids
from lateen_serving.rag.pushes import Push
from lateen_serving.rag.sources import Surroundings
from lateen_serving.rag.sync import Synchronization
from lateen_serving.settings import ServingSettings
from unit.rag_fakes import Crash, DirectParser, MemoryCursors, MemoryStore, WordEmbedder

ZEBRA, WALRUS = ("file-" + letter * 32 for letter in "ab")


class MemoryPushed:
    """`push.Pushed` in memory."""

    def __init__(self) -> None:
        self.begun = False
        self.rows: dict[str, tuple[Push, bytes]] = {}
        self.reads: list[str] = []
        self.lost: set[str] = set()
        """Files whose bytes are gone."""
        self.arriving: tuple[str, str, bytes] | None = None
        """What is pushed right before the documents are read."""

    def put(self, file: str, name: str, content: bytes, **attributes: Any) -> None:
        self.rows[file] = Push(file, name, len(content), content.hex(), 5000, 9000, attributes), content

    async def state(self) -> str | None:
        content = repr(sorted(self.rows.items())).encode()
        return pushing.state(len(self.rows), sum(content)) if self.begun else None

    async def begin(self) -> None:
        self.begun = True

    async def documents(self) -> tuple[Sequence[Push], str]:
        if self.arriving is not None:
            self.put(*self.arriving)
        return [push for push, _ in self.rows.values()], await self.state() or ""

    async def read(self, push: Push) -> bytes:
        self.reads.append(push.file)
        if push.file in self.lost:
            raise FileNotFoundError
        return self.rows[push.file][1]


class World:
    """An index with a push source; `renew` makes another collection of it."""

    def __init__(self, folder: Path) -> None:
        self.pushed = MemoryPushed()
        self.embedder = WordEmbedder()
        settings = ServingSettings(volumes=folder)
        self.around = Surroundings(settings, folder, folder / "scratch", 4096, pushed=self.pushed)
        self.renew()

    def renew(self) -> None:
        self.store, self.cursors = MemoryStore(), MemoryCursors()

    async def sync(self, *sources: dict[str, Any], **more: Any) -> BuildReport:
        self.embedder.embedded.clear()
        self.pushed.reads.clear()
        document = {
            "id": "inbox", "namespace": "default", "collection": "C", "fingerprint": "f", "parsing": {"maxDocumentBytes": "4Ki"},
            "sources": list(sources) or [{"name": "docs", "push": {}}], "chunking": {"size": 24, "overlap": 4},
            "store": {}, "embedderApplication": "a", "embedder": "minilm", "embedderRevision": "r1",
        }  # fmt: skip
        asked = BuildRequest.model_validate(document | more)
        return await Synchronization(
            asked,
            self.store,
            self.embedder,
            DirectParser(asked.pipeline),
            self.around,
            lambda: datetime(2026, 1, 2, tzinfo=UTC),
            self.cursors,
        ).run()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Nothing pushed yet."""
    return World(tmp_path)


async def test_pushed_documents_are_indexed_with_what_was_said_of_them(world: World) -> None:
    """Their kind is known by their name; attributes become metadata; the report has the state it has seen."""
    empty = await world.sync()
    assert (empty.documents, empty.sources[0].cursor) == (0, pushing.NOTHING)
    world.pushed.put(ZEBRA, "zebra.md", b"# Zebra\n\npurple", team="red", level=3)
    report = await world.sync()
    (chunk,) = world.store.chunks.values()
    assert (chunk.document_id, chunk.path, chunk.title) == (
        ids.of_document("docs", ZEBRA),
        "zebra.md",
        "Zebra",
    )
    assert (chunk.metadata, chunk.uri) == ({"team": "red", "level": 3}, "push:docs/zebra.md")
    assert report.sources[0].cursor == await world.pushed.state()


async def test_the_report_has_the_state_that_was_read(world: World) -> None:
    """What came just before the documents were read, and has gone again since, is seen to be in the index."""
    world.pushed.put(ZEBRA, "zebra.md", b"purple")
    world.pushed.arriving = (WALRUS, "walrus.md", b"trumpet")
    report = await world.sync()
    del world.pushed.rows[WALRUS]
    assert report.documents == 2
    assert report.sources[0].cursor != await world.pushed.state()


async def test_only_what_changed_is_read(world: World) -> None:
    """A document that is indexed is not read again, until its attributes are others; one that was deleted leaves."""
    world.pushed.put(ZEBRA, "zebra.md", b"purple")
    world.pushed.put(WALRUS, "walrus.md", b"trumpet", team="red")
    await world.sync()
    assert (await world.sync()).embedded == 0
    assert world.pushed.reads == []
    world.pushed.put(WALRUS, "walrus.md", b"trumpet", team="blue")
    del world.pushed.rows[ZEBRA]
    report = await world.sync()
    assert (report.embedded, report.removed, report.documents) == (1, 1, 1)
    assert set(world.pushed.reads) == {WALRUS}
    assert [chunk.metadata for chunk in world.store.chunks.values()] == [{"team": "blue"}]


async def test_another_collection_gets_everything_again(world: World) -> None:
    """Pushed documents are in every revision of the index."""
    world.pushed.put(ZEBRA, "zebra.md", b"purple", team="red")
    await world.sync()
    before = world.store.chunks
    world.renew()
    await world.sync()
    assert world.store.chunks == before


async def test_kept_documents_stay(world: World) -> None:
    """With deletePolicy Keep, as those of any other source; a source that is taken out of the spec loses them."""
    world.pushed.put(ZEBRA, "zebra.md", b"purple")
    await world.sync(sync={"deletePolicy": "Keep"})
    del world.pushed.rows[ZEBRA]
    assert (await world.sync(sync={"deletePolicy": "Keep"})).documents == 1
    inline = {"name": "s", "inline": {"documents": [{"name": "a.md", "text": "one"}]}}
    assert (await world.sync(inline, sync={"deletePolicy": "Keep"})).removed == 1


async def test_bad_documents_fail_alone(world: World) -> None:
    """One whose bytes are gone, one that can't be parsed, one that has become too large: each with its reason."""
    files = [f"file-{letter * 32}" for letter in "abcd"]
    world.pushed.put(files[0], "gone.md", b"gone")
    world.pushed.put(files[1], "broken.pdf", b"%PDF-1.7 nothing")
    world.pushed.put(files[2], "large.md", b"x" * 5000)
    world.pushed.put(files[3], "fine.md", b"fine")
    world.pushed.lost.add(files[0])
    report = await world.sync()
    reasons = [(ids.public(failure.document), failure.reason) for failure in report.failures]
    assert reasons == [(files[0], "Unreadable"), (files[1], "Malformed"), (files[2], "TooLarge")]
    assert report.documents == 1


async def test_lost_rows_are_not_taken_for_deletions(world: World) -> None:
    """Where the whole collection of pushed documents is gone, what is indexed stays and the source says so."""
    world.pushed.put(ZEBRA, "zebra.md", b"purple")
    await world.sync()
    world.pushed.begun = False
    report = await world.sync()
    assert (report.documents, report.removed, report.failures[0].reason) == (1, 0, "SourceNotFound")
    assert not world.pushed.begun


async def test_a_killed_build_is_completed_by_the_next(world: World) -> None:
    """Wherever it was killed, the next run leaves every document once, and nothing of one that was deleted."""
    world.pushed.put(ZEBRA, "zebra.md", b"# Zebra\n\npurple")
    world.pushed.put(WALRUS, "walrus.md", b"old")
    await world.sync()
    writes = 0
    while True:
        del world.pushed.rows[ZEBRA]
        world.pushed.put(WALRUS, "walrus.md", f"new {writes}".encode())
        world.store.writes, world.store.crash_at = 0, writes
        try:
            await world.sync()
        except Crash:
            world.store.crash_at = None
            await world.sync()
            assert list(world.store.texts().values()) == [[f"new {writes}"]]
            world.pushed.put(ZEBRA, "zebra.md", b"# Zebra\n\npurple")
            await world.sync()
            writes += 1
            continue
        break
    assert writes > 3


async def test_a_build_that_was_not_told_where_documents_are_says_so(world: World) -> None:
    """The source fails; nothing else does."""
    world.around = replace(world.around, pushed=None)
    assert (await world.sync()).failures[0].reason == "SourceNotFound"


@given(st.text(), st.sampled_from(["docs", "a-b"]))
def test_ids_lead_back_to_documents(text: str, source: str) -> None:
    """A file's id stands for its document and back; any other id is left alone."""
    file = ids.new_file()
    assert ids.inside(source, file) == f"{source}//{file}"
    assert ids.public(f"{source}//{file}") == file
    assert ids.inside(None, file) == file
    assert ids.inside(source, text) == text
    assert ids.public(text) == text
