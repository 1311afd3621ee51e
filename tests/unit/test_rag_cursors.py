# SPDX-License-Identifier: Apache-2.0
"""What one synchronization tells the next, and what it says of each source."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from lateen_api.index_build import BuildReport, BuildRequest, SourceReport
from lateen_api.rag_index import Pipeline
from lateen_api.rag_sources import Source
from lateen_serving.outbound import retrying
from lateen_serving.rag import cursors, sidecars
from lateen_serving.rag.cursors import Kept
from lateen_serving.rag.parsing.parsed import Outcome, Raw, Refused
from lateen_serving.rag.protocol import Cursor, Document, Entry, mark
from lateen_serving.rag.sources import Surroundings
from lateen_serving.rag.sync import Synchronization
from lateen_serving.settings import ServingSettings
from unit.rag_fakes import Crash, DirectParser, MemoryCursors, MemoryStore, WordEmbedder
from unit.weights_fakes import Server

SITE = "https://93.184.216.34"
WEB = {"name": "web", "http": {"urls": [f"{SITE}/a.txt", f"{SITE}/b.txt"], "requestsPerSecond": 100}}
PUSHED = {"name": "sent", "push": {}}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)


class Fragile(DirectParser):
    """Some files kill it."""

    def __init__(self, pipeline: Pipeline, crashing: set[bytes]) -> None:
        super().__init__(pipeline)
        self._crashing = crashing

    async def parse(self, files: Sequence[Raw]) -> list[Outcome]:
        outcomes = await super().parse(files)
        return [
            Refused("Crashed", "killed") if raw.data in self._crashing else outcome
            for raw, outcome in zip(files, outcomes, strict=True)
        ]


class World:
    """A collection, its cursors and a web server whose pages have entity tags."""

    def __init__(self, folder: Path) -> None:
        self.store, self.cursors = MemoryStore(), MemoryCursors()
        self.server = Server({})
        self.sent: list[str] = []
        self.folder, self.runs = folder, 0
        self.texts: dict[str, str] = {}
        self.crashing: set[bytes] = set()
        self.write({"a.txt": "a", "b.txt": "b"})

    def write(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.server.pages = {f"/{name}": self._answer for name in texts}

    def _answer(self, request: httpx.Request) -> httpx.Response:
        text = self.texts[request.url.path[1:]]
        if request.headers.get("if-none-match") == f'"{text}"':
            return httpx.Response(304)
        self.sent.append(request.url.path)
        headers = {"etag": f'"{text}"', "last-modified": "Fri, 02 Jan 2026 08:00:00 GMT"}
        return httpx.Response(200, headers=headers, text=text)

    async def sync(self, *sources: dict[str, Any], **more: Any) -> BuildReport:
        self.runs += 1
        self.sent.clear()
        document = {
            "id": "i", "namespace": "n", "collection": "C", "fingerprint": "f", "sources": list(sources), "parsing": {},
            "chunking": {"size": 24, "overlap": 4}, "store": {}, "embedderApplication": "a", "embedder": "m",
            "embedderRevision": "r",
        }  # fmt: skip
        around = Surroundings(
            ServingSettings(), self.folder, self.folder / f"scratch{self.runs}", 2000, transport=self.server
        )
        now = NOON + timedelta(hours=self.runs)
        request = BuildRequest.model_validate(document | more)
        return await Synchronization(
            request,
            self.store,
            WordEmbedder(),
            Fragile(request.pipeline, self.crashing),
            around,
            lambda: now,
            self.cursors,
        ).run()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty collection and two pages."""
    return World(tmp_path)


async def test_what_has_not_changed_is_neither_sent_nor_embedded(world: World) -> None:
    """The second run asks with entity tags; a changed page alone is read."""
    await world.sync(WEB)
    assert sorted(world.sent) == ["/a.txt", "/b.txt"]
    report = await world.sync(WEB)
    assert (world.sent, report.embedded, report.documents) == ([], 0, 2)
    world.write({"a.txt": "a", "b.txt": "new"})
    report = await world.sync(WEB)
    assert (world.sent, report.embedded) == (["/b.txt"], 1)


async def test_a_version_that_failed_is_read_again(world: World) -> None:
    """What stays indexed of a page whose new version crashes the parser is not taken for the new version."""
    await world.sync(WEB)
    world.write({"a.txt": "a", "b.txt": "new"})
    world.crashing.add(b"new")
    for _ in range(2):
        report = await world.sync(WEB)
        assert (world.sent, report.failed, report.sources[0].failed) == (["/b.txt"], 1, 1)
        assert sorted(world.store.texts().values()) == [["a"], ["b"]]
    world.crashing.clear()
    report = await world.sync(WEB)
    assert (sorted(world.store.texts().values()), report.failed) == ([["a"], ["new"]], 0)


async def test_killed_after_any_write_a_page_that_turned_back_is_right(world: World, tmp_path: Path) -> None:
    """A cursor that is older than the ledger is not believed: the end state is that of the pages."""
    at = 0
    while True:
        broken = World(tmp_path / str(at))
        await broken.sync(WEB)
        broken.write({"a.txt": "changed", "b.txt": "b"})
        broken.store.crash_at = broken.store.writes + at
        try:
            await broken.sync(WEB)
        except Crash:
            crashed = True
        else:
            crashed = False
        broken.store.crash_at = None
        broken.write({"a.txt": "a", "b.txt": "b"})
        await broken.sync(WEB)
        names = {key.rpartition("/")[2]: text for key, text in broken.store.texts().items()}
        assert names == {"a.txt": ["a"], "b.txt": ["b"]}, f"after {at} writes"
        if not crashed:
            break
        at += 1
    assert at > 4


async def test_a_duplicate_takes_the_place_of_an_original_of_another_source(world: World) -> None:
    """It is read again although its own source has not changed."""
    inline = {"name": "i", "inline": {"documents": [{"name": "x.txt", "text": "a"}]}}
    report = await world.sync(inline, WEB)
    assert (report.documents, report.pipeline.duplicates) == (2, 1)
    report = await world.sync(WEB)
    assert (report.documents, report.pipeline.duplicates) == (2, 0)
    assert sorted(world.store.texts().values()) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("versions", "known", "unchanged"),
    [
        (("v1", "s1"), "v1 s1", True),
        (("v1", "s2"), "v1 s1", False),
        (("v2", "s1"), "v1 s1", False),
        (("v1", "s1"), "v1", False),
        (("v1", ""), "v1 ", False),
    ],
)
def test_a_document_changes_with_its_sidecar_file(
    versions: tuple[str, str], known: str, unchanged: bool
) -> None:
    """What is indexed of a document is right as long as both are as they were."""

    async def read() -> bytes:
        return b""

    ids = ("s/a.md", "s/a.md.metadata.json")
    both = [
        Document(key, "s", key, f"u:{key}", 0, read, version=version)
        for key, version in zip(ids, versions, strict=True)
    ]
    cursor = Cursor(marks={"s/a.md": mark("u:s/a.md", known)})
    (found,) = sidecars.paired(both, cursor)
    assert (found.unchanged, found.sidecar) == (unchanged, both[1])


async def test_nothing_goes_while_a_page_that_leads_to_it_is_away(world: World) -> None:
    """Without the links of a page that can't be read, what they lead to is not known to be gone."""
    web = {"name": "web", "http": {"urls": [f"{SITE}/x", f"{SITE}/a.txt"], "crawl": {"maxDepth": 1}}}
    headers = {"content-type": "text/html"}
    links = httpx.Response(200, headers=headers, text="index <a href=/b.txt>b</a>")
    world.server.pages["/x"] = lambda _: links
    await world.sync(web)
    assert len(world.store.ledger) == 3
    world.cursors.text = ""
    world.server.pages["/x"] = lambda _: httpx.Response(503)
    report = await world.sync(web)
    assert (report.documents, report.removed, report.failed) == (3, 0, 1)


@pytest.mark.parametrize(
    ("status", "stays"), [(401, True), (403, True), (418, True), (404, False), (410, False)]
)
async def test_a_page_leaves_only_when_it_does_not_exist(world: World, status: int, stays: bool) -> None:
    """A page that is refused to us keeps its passages, and is reported."""
    await world.sync(WEB)
    world.server.pages["/b.txt"] = lambda _: httpx.Response(status)
    report = await world.sync(WEB)
    assert sorted(world.store.texts().values()) == ([["a"], ["b"]] if stays else [["a"]])
    assert [item.reason for item in report.failures] == ["Unreadable" if stays else "NotFound"]


async def test_a_page_that_redirected_stays_while_it_is_away(world: World) -> None:
    """Its document has the name of where it led, which a run with other settings does not know."""
    world.server.pages["/old"] = lambda _: httpx.Response(302, headers={"location": "/b.txt"})
    web = {"name": "web", "http": {"urls": [f"{SITE}/a.txt", f"{SITE}/old"], "requestsPerSecond": 100}}
    await world.sync(web)
    world.server.pages["/old"] = lambda _: httpx.Response(503)
    report = await world.sync({**web, "http": {**web["http"], "maxPages": 7}})  # type: ignore[dict-item]
    assert (sorted(world.store.texts().values()), report.failed) == ([["a"], ["b"]], 1)


async def test_other_settings_make_a_cursor_worthless(world: World) -> None:
    """A source that is described differently is read anew, without embedding what is the same."""
    await world.sync(WEB)
    changed = {**WEB, "http": {**WEB["http"], "maxPages": 7}}  # type: ignore[dict-item]
    report = await world.sync(changed)
    assert (len(world.sent), report.embedded) == (2, 0)


async def test_documents_that_are_gone_stay_with_keep(world: World) -> None:
    """Until their source is taken out, or the policy changes."""
    inline = {"name": "i", "inline": {"documents": [{"name": "x.txt", "text": "x"}]}}
    other = {"name": "i", "inline": {"documents": [{"name": "y.txt", "text": "y"}]}}
    keep = {"sync": {"deletePolicy": "Keep"}}
    await world.sync(inline, WEB, **keep)
    report = await world.sync(other, WEB, **keep)
    assert (report.documents, report.removed) == (4, 0)
    report = await world.sync(other, **keep)
    assert sorted(world.store.ledger) == ["i/x.txt", "i/y.txt"]
    report = await world.sync(other)
    assert (sorted(world.store.ledger), report.removed) == (["i/y.txt"], 1)


async def test_pushed_documents_stay_while_it_is_not_known_what_was_pushed(world: World) -> None:
    """As long as the spec has their source; without it they go."""
    world.store.ledger["sent/file-1"] = Entry("sent/file-1", "hash", 0)
    report = await world.sync(WEB, PUSHED)
    assert report.sources[1] == SourceReport(
        name="sent", documents=1, failed=1, read_at=None, pending_since=report.started_at
    )
    report = await world.sync(WEB)
    assert ("sent/file-1" in world.store.ledger, report.removed) == (False, 1)


async def test_each_source_is_reported(world: World) -> None:
    """Documents, changes, failures, when it was read, and since when the index lacks something of it."""
    inline = {"name": "i", "inline": {"documents": [{"name": "x.md", "text": "x"}]}}
    bad = {"name": "i", "inline": {"documents": [{"name": "x.md", "text": "---\na: 1\n---\n"}]}}
    one = await world.sync(WEB, inline)
    assert one.sources == [
        SourceReport(name="web", documents=2, changed=2, read_at=one.started_at),
        SourceReport(name="i", documents=1, changed=1, read_at=one.started_at),
    ]
    world.server.pages["/robots.txt"] = lambda _: httpx.Response(500)
    two = await world.sync(WEB, bad)
    assert two.sources == [
        SourceReport(name="web", documents=2, failed=1, read_at=one.started_at, pending_since=one.started_at),
        SourceReport(
            name="i", documents=0, removed=1, failed=1, read_at=two.started_at, pending_since=two.started_at
        ),
    ]
    three = await world.sync(WEB, bad)
    assert [item.pending_since for item in three.sources] == [one.started_at, two.started_at]
    world.server.pages.pop("/robots.txt")
    four = await world.sync(WEB, inline)
    assert [(item.pending_since, item.failed) for item in four.sources] == [(None, 0), (None, 0)]


async def test_the_lag_of_a_page_counts_from_its_change(world: World) -> None:
    """Where the server says when a page changed, that is since when the index lacks it."""
    world.write({"a.txt": "a", "b.txt": " "})
    report = await world.sync(WEB)
    assert report.sources[0].pending_since == "2026-01-02T08:00:00+00:00"


def test_cursors_are_kept_as_a_bounded_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept comes back; the largest that does not fit is left out; a broken text is nothing."""
    small = Kept(settings="s", documents={"a/1": ("m", "h")}, whole=True, read_at="t")
    large = Kept(settings="s", state={"x": [mark(str(number), "") for number in range(2000)]}, whole=True)
    assert cursors.decode(cursors.encode({"a": small, "b": large})) == {"a": small, "b": large}
    monkeypatch.setattr(cursors, "MAX_TEXT", 1000)
    found = cursors.decode(cursors.encode({"a": small, "b": large}))
    assert found == {"a": small, "b": large.model_copy(update={"state": {}, "whole": False})}
    assert cursors.decode("") == cursors.decode("no base64!") == cursors.decode("AAAA") == {}


@pytest.mark.parametrize(
    ("ledger", "whole", "knows"),
    [
        ({"s/a": "hash1"}, True, True), ({"s/a": ""}, False, False), ({"s/a": "other"}, False, False), ({}, False, False),
        ({"s/a": "hash1", "s/b": "x"}, False, True), ({"s/a": "hash1", "t/b": "x"}, True, True),
    ],
)  # fmt: skip
def test_a_cursor_is_believed_where_the_ledger_agrees(
    ledger: dict[str, str], whole: bool, knows: bool
) -> None:
    """A document counts with the hash it had; the source is whole if the ledger has these documents of it and no others."""
    kept = Kept(settings="w", documents={"s/a": (mark("uri", "v1"), "hash1")}, whole=True)
    entries = {key: Entry(key, digest, 1) for key, digest in ledger.items()}
    found = cursors.cursor(kept, "w", "s", entries)
    assert (found.whole, found.knows("s/a", "uri", "v1")) == (whole, knows)
    assert not found.knows("s/a", "uri", "v2")
    assert not found.knows("s/a", "elsewhere", "v1")
    assert cursors.cursor(kept, "other", "s", entries) == cursors.cursor(None, "w", "s", entries)


def test_settings_cover_the_source_and_the_form() -> None:
    """Another source, or another form of content hashes, is another cursor."""
    source = Source.model_validate(WEB)
    other = source.model_copy(update={"name": "x"})
    found = {cursors.settings(source, b"1"), cursors.settings(source, b"2"), cursors.settings(other, b"1")}
    assert len(found) == 3
