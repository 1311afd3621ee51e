# SPDX-License-Identifier: Apache-2.0
"""Bringing a collection to the state of its sources."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lateen_api.index_build import MAX_LISTED_FAILURES, BuildReport, BuildRequest, SourceReport
from lateen_serving.engine.protocol import Embeddings
from lateen_serving.rag import reading, sync
from lateen_serving.rag.protocol import BuildFailure
from lateen_serving.rag.sources import Surroundings
from lateen_serving.rag.sync import Synchronization
from lateen_serving.settings import ServingSettings
from unit.rag_fakes import Crash, DirectParser, MemoryCursors, MemoryStore, WordEmbedder

LONG = "# Long\n\n" + "\n\n".join(f"paragraph {number} " + "word " * 20 for number in range(12))


def request(sources: list[dict[str, Any]], **more: Any) -> BuildRequest:
    """A request for passages of 24 tokens from documents of at most 4 KiB."""
    document = {
        "id": "handbook", "namespace": "default", "collection": "C", "fingerprint": "f", "sources": sources, "parsing": {"maxDocumentBytes": "4Ki"},
        "chunking": {"size": 24, "overlap": 4}, "store": {}, "embedderApplication": "a", "embedder": "minilm",
        "embedderRevision": "r1",
    }  # fmt: skip
    return BuildRequest.model_validate(document | more)


def inline(documents: dict[str, str], name: str = "s") -> dict[str, Any]:
    """A source of the documents given as text by name."""
    return {"name": name, "inline": {"documents": [{"name": n, "text": t} for n, t in documents.items()]}}


class World:
    """One collection and what surrounds its builds."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.embedder = WordEmbedder()
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.cursors = MemoryCursors()
        self.settings = ServingSettings(volumes=folder / "volumes")
        self.around = Surroundings(self.settings, folder / "job", folder / "scratch", 4096)

    async def sync(self, *sources: dict[str, Any], **more: Any) -> BuildReport:
        self.embedder.embedded.clear()
        asked = request(list(sources), **more)
        run = Synchronization(
            asked,
            self.store,
            self.embedder,
            DirectParser(asked.pipeline),
            self.around,
            lambda: self.now,
            self.cursors,
        )
        return await run.run()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty collection."""
    return World(tmp_path)


async def test_first_build_indexes_everything(world: World) -> None:
    """All documents are cut, embedded, stored, in the ledger and counted in the report."""
    report = await world.sync(inline({"a.md": "# A\n\none\n\n## B\n\ntwo", "b.txt": "three"}))
    assert world.store.texts() == {"s/a.md": ["one", "two"], "s/b.txt": ["three"]}
    assert {key: entry.chunks for key, entry in world.store.ledger.items()} == {"s/a.md": 2, "s/b.txt": 1}
    assert world.embedder.embedded == ["A\n\none", "A > B\n\ntwo", "three"]
    assert report == BuildReport(
        fingerprint="f", started_at="2026-01-02T00:00:00+00:00", finished_at="2026-01-02T00:00:00+00:00",
        documents=2, chunks=3, tokens=8, embedded=3, embedded_tokens=8, removed=0, failed=0,
        sources=[SourceReport(name="s", documents=2, changed=2, read_at="2026-01-02T00:00:00+00:00")],
    )  # fmt: skip
    assert world.store.report == report


async def test_nothing_changed_embeds_nothing(world: World) -> None:
    """A second run reads and compares; it writes nothing but the report."""
    sources = inline({"a.md": LONG})
    first = await world.sync(sources)
    writes = world.store.writes
    second = await world.sync(sources)
    assert (second.embedded, second.chunks, second.tokens) == (0, first.chunks, first.tokens)
    assert world.store.writes == writes + 1


async def test_edit_add_and_remove_touch_only_those_documents(world: World) -> None:
    """Edited documents replace their chunks, removed ones lose them, the others are not embedded again."""
    await world.sync(inline({"a.txt": LONG, "b.txt": "b", "c.txt": "c"}))
    report = await world.sync(inline({"a.txt": "short now", "b.txt": "b", "d.txt": "d"}))
    assert world.store.texts() == {"s/a.txt": ["short now"], "s/b.txt": ["b"], "s/d.txt": ["d"]}
    assert world.embedder.embedded == ["short now", "d"]
    assert (report.embedded, report.removed, report.documents, report.chunks) == (2, 1, 3, 3)


async def test_bad_documents_fail_alone_and_lose_what_they_had(world: World) -> None:
    """Too large, empty: reported by name with a reason, no longer found; the others are indexed."""
    await world.sync(inline({"big.txt": "small", "empty.md": "x"}))
    report = await world.sync(
        inline({"big.txt": "x " * 3000, "empty.md": "---\na: 1\n---\n", "ok.txt": "fine"})
    )
    assert [(failure.document, failure.reason) for failure in report.failures] == [
        ("s/big.txt", "TooLarge"),
        ("s/empty.md", "Empty"),
    ]
    assert world.store.texts() == {"s/ok.txt": ["fine"]}
    assert list(world.store.ledger) == ["s/ok.txt"]
    assert (report.failed, report.removed) == (2, 2)


async def test_a_source_that_cannot_be_read_keeps_its_documents(world: World) -> None:
    """A volume that is missing, or empty as before it is mounted, fails alone; what is indexed of it stays, and goes when
    other files are there without it.
    """
    folder = world.settings.volumes / "docs"
    folder.mkdir(parents=True)
    (folder / "kept.txt").write_text("kept")
    volume = {"name": "v", "pvc": {"claimName": "docs"}}
    await world.sync(volume, inline({"a.txt": "a"}))
    folder.rename(folder.with_name("away"))
    report = await world.sync(volume, inline({"a.txt": "b"}))
    assert world.store.texts() == {"s/a.txt": ["b"], "v/kept.txt": ["kept"]}
    assert [(failure.document, failure.reason) for failure in report.failures] == [("v", "SourceNotFound")]
    folder.mkdir()
    report = await world.sync(volume, inline({"a.txt": "b"}))
    assert (list(world.store.texts()), report.removed, report.failed) == (["s/a.txt", "v/kept.txt"], 0, 1)
    (folder / "other.txt").write_text("other")
    report = await world.sync(volume, inline({"a.txt": "b"}))
    assert (list(world.store.texts()), report.removed, report.failed) == (["s/a.txt", "v/other.txt"], 1, 0)


async def test_a_source_that_cannot_be_read_is_listed_before_documents(world: World) -> None:
    """A report lists few failures, and what decides about going live must be among them."""
    empty = inline({f"{number:02}.txt": " " for number in range(MAX_LISTED_FAILURES + 1)}, "a")
    report = await world.sync(empty, {"name": "v", "pvc": {"claimName": "docs"}}, inline({"a.txt": "a"}))
    assert (report.failed, len(report.failures)) == (MAX_LISTED_FAILURES + 2, MAX_LISTED_FAILURES)
    first, second = report.failures[:2]
    assert (first.document, first.reason) == ("v", "SourceNotFound")
    assert (second.document, second.reason) == ("a/00.txt", "Empty")


async def test_a_source_taken_out_of_the_index_loses_its_documents(world: World) -> None:
    """Documents of a source that is no longer declared are removed."""
    await world.sync(inline({"a.txt": "a"}, "one"), inline({"a.txt": "b"}, "two"))
    report = await world.sync(inline({"a.txt": "b"}, "two"))
    assert (list(world.store.texts()), report.removed) == (["two/a.txt"], 1)


async def test_killed_after_any_write_the_next_run_completes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash at every single write, and even if the edit is undone, the end state is that of a fresh build."""
    monkeypatch.setattr(reading, "WINDOW_DOCUMENTS", 2)
    before = inline({"a.txt": LONG, "b.txt": "b", "gone.txt": "gone"})
    after = inline({"a.txt": LONG.replace("word", "term"), "b.txt": "b", "new.txt": "new"})
    for final in (after, before):
        reference = World(world.around.scratch)
        await reference.sync(final)
        at = 0
        while True:
            broken = World(world.around.scratch)
            await broken.sync(before)
            broken.store.crash_at = broken.store.writes + at
            try:
                await broken.sync(after)
            except Crash:
                crashed = True
            else:
                crashed = False
            broken.store.crash_at = None
            report = await broken.sync(final)
            assert broken.store.chunks == reference.store.chunks, f"after {at} writes"
            assert broken.store.ledger == reference.store.ledger, f"after {at} writes"
            assert report.chunks == len(reference.store.chunks)
            if not crashed:
                break
            at += 1
        assert at > 20


async def test_a_renamed_document_stays_while_nothing_can_be_embedded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is gone is removed only after what is new is indexed."""
    await world.sync(inline({"old.txt": "text"}))

    async def gone(_embedder: WordEmbedder, _texts: Sequence[str]) -> Embeddings:
        raise BuildFailure("ReferenceNotReady", "gone")

    with monkeypatch.context() as patched:
        patched.setattr(WordEmbedder, "embed", gone)
        with pytest.raises(BuildFailure):
            await world.sync(inline({"new.txt": "text"}))
    assert world.store.texts() == {"s/old.txt": ["text"]}
    report = await world.sync(inline({"new.txt": "text"}))
    assert (world.store.texts(), report.removed) == ({"s/new.txt": ["text"]}, 1)


async def test_lost_chunks_are_noticed_and_written_again(world: World) -> None:
    """If a chunk disappears, its document's ledger entry is not believed."""
    sources = inline({"a.txt": LONG, "b.txt": "b"})
    await world.sync(sources)
    right = dict(world.store.chunks)
    del world.store.chunks[next(iter(right))]
    await world.sync(sources)
    assert world.store.chunks == right


async def test_chunks_without_an_entry_go(world: World) -> None:
    """Chunks of a document that the ledger does not know are removed."""
    await world.sync(inline({"a.txt": "a", "b.txt": "b"}))
    world.store.ledger.pop("s/b.txt")
    await world.sync(inline({"a.txt": "a"}))
    assert world.store.texts() == {"s/a.txt": ["a"]}


async def test_vectors_of_two_embedders_are_never_mixed(world: World) -> None:
    """A collection stamped by one embedder refuses another."""
    await world.sync(inline({"a.txt": "a"}))
    with pytest.raises(BuildFailure) as failure:
        await world.sync(inline({"a.txt": "b"}), embedderRevision="r2")
    assert failure.value.reason == "BuildFailed"
    assert world.store.texts() == {"s/a.txt": ["a"]}


async def test_no_text_is_longer_than_the_embedder_reads(world: World) -> None:
    """Long headings, long words and large sizes are all cut to what fits (the fake embedder refuses more)."""
    text = f"# {'Heading ' * 60}\n\n{'x' * 3000}\n\n## Sub\n\n{LONG}"
    await world.sync(
        inline({"a.md": text}), chunking={"size": 8000, "overlap": 100}, parsing={"maxDocumentBytes": "1Mi"}
    )
    assert len(world.store.chunks) > 20


async def test_windows_bound_what_is_in_memory_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are written window by window: a small window gives several, with the same result."""
    monkeypatch.setattr(reading, "WINDOW_BYTES", 10)
    monkeypatch.setattr(sync, "EMBED_TEXTS", 2)
    documents = {f"{number}.txt": f"text {number}" for number in range(20)}
    report = await world.sync(inline(documents))
    assert (report.documents, report.chunks, report.embedded) == (20, 20, 20)
