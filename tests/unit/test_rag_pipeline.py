# SPDX-License-Identifier: Apache-2.0
"""What is done to documents between reading and embedding: duplicates, redaction, minimum content, sidecar files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.index_build import PipelineCounts
from lateen_serving.rag.outline import Heading
from lateen_serving.rag.parsing.parsed import Outcome, Parsed, Raw, Refused
from lateen_serving.rag.parsing.redacting import redacted
from lateen_serving.rag.parsing.similarity import signature, similarity
from unit.rag_fakes import DirectParser
from unit.test_rag_sync import World, inline

STORY = " ".join(f"word{number}" for number in range(200))
NEARLY = STORY.replace("word100 ", "term100 ")
OTHER = " ".join(f"other{number}" for number in range(200))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty collection."""
    return World(tmp_path)


async def test_exact_duplicates_are_counted_not_indexed(world: World) -> None:
    """Of documents with the same text the first is indexed, whatever their bytes are."""
    report = await world.sync(
        inline({"a.txt": "same text", "b.txt": "same\u200b text  \n", "c.txt": "other"})
    )
    assert world.store.texts() == {"s/a.txt": ["same text"], "s/c.txt": ["other"]}
    assert (report.documents, report.failed, report.pipeline.duplicates) == (2, 0, 1)


async def test_a_duplicate_takes_over_when_the_original_goes(world: World) -> None:
    """Removed or edited, the document that stood for both is replaced by the other at the next sync."""
    both = {"a.txt": "same text", "b.txt": "same text"}
    await world.sync(inline(both))
    again = await world.sync(inline(both))
    assert (again.embedded, again.pipeline.duplicates) == (0, 1)
    await world.sync(inline({"b.txt": "same text"}))
    assert world.store.texts() == {"s/b.txt": ["same text"]}
    await world.sync(inline(both))
    assert world.store.texts() == {"s/b.txt": ["same text"]}
    report = await world.sync(inline({"a.txt": "same text", "b.txt": "edited"}))
    assert world.store.texts() == {"s/a.txt": ["same text"], "s/b.txt": ["edited"]}
    assert report.pipeline == PipelineCounts()


async def test_an_indexed_document_that_becomes_a_duplicate_leaves(world: World) -> None:
    """Its passages go, and it is counted."""
    await world.sync(inline({"a.txt": "one", "b.txt": "two"}))
    report = await world.sync(inline({"a.txt": "one", "b.txt": "one"}))
    assert world.store.texts() == {"s/a.txt": ["one"]}
    assert (report.documents, report.pipeline.duplicates, report.chunks) == (1, 1, 1)


@pytest.mark.parametrize(
    ("mode", "indexed", "counts"),
    [
        ("Keep", ["a", "b", "c", "d"], PipelineCounts()),
        ("RemoveExact", ["a", "b", "d"], PipelineCounts(duplicates=1)),
        ("RemoveNear", ["a", "d"], PipelineCounts(duplicates=1, near_duplicates=1)),
    ],
)
async def test_near_duplicates(world: World, mode: str, indexed: list[str], counts: PipelineCounts) -> None:
    """The spec says what counts as a duplicate; a second run knows the documents of the first."""
    documents = {"a.txt": STORY, "b.txt": NEARLY, "c.txt": STORY, "d.txt": OTHER}
    pipeline = {"duplicates": mode, "nearDuplicateSimilarity": "0.9"}
    await world.sync(inline({"a.txt": STORY}), pipeline=pipeline)
    report = await world.sync(inline(documents), pipeline=pipeline)
    assert sorted(world.store.texts()) == [f"s/{name}.txt" for name in indexed]
    assert report.pipeline == counts


async def test_documents_of_too_little_text_are_counted_not_indexed(world: World) -> None:
    """Letters and digits count, whatever is between them."""
    report = await world.sync(
        inline({"a.txt": "- - 12345 - -", "b.txt": "1234567890"}), pipeline={"minCharacters": 6}
    )
    assert list(world.store.texts()) == ["s/b.txt"]
    assert report.pipeline == PipelineCounts(too_short=1)


async def test_personal_data_never_reaches_embedder_and_store(world: World) -> None:
    """Text, headings and title are redacted before anything is cut; the report counts."""
    text = "# Call ann@example.org\n\nOr +49 170 1234567 at night.\n\n## More\n\nIBAN DE89 3704 0044 0532 0130 00."
    report = await world.sync(inline({"a.md": text}), pipeline={"redactPersonalData": True})
    seen = " ".join([*world.embedder.embedded, *(str(chunk) for chunk in world.store.chunks.values())])
    for secret in ("ann@example.org", "1234567", "3704"):
        assert secret not in seen
    headings = [chunk.heading for chunk in world.store.chunks.values()]
    assert sorted(headings) == ["Call [EMAIL]", "Call [EMAIL] > More"]
    assert report.pipeline == PipelineCounts(redactions=3)


@pytest.mark.parametrize(("reason", "kept"), [("Crashed", True), ("TooComplex", True), ("Malformed", False)])
async def test_what_may_be_the_machines_fault_costs_no_document_its_passages(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: Any, kept: bool
) -> None:
    """A crash or a timeout is reported and what is indexed stays until the document can be read; damage removes it."""
    await world.sync(inline({"a.txt": "old", "b.txt": "b"}))

    async def refuse(_parser: DirectParser, files: Sequence[Raw]) -> list[Outcome]:
        return [Refused(reason, "died") for _ in files]

    with monkeypatch.context() as patched:
        patched.setattr(DirectParser, "parse", refuse)
        report = await world.sync(inline({"a.txt": "new", "b.txt": "b"}))
    assert [(failure.document, failure.reason) for failure in report.failures] == [("s/a.txt", reason)]
    assert world.store.texts() == {"s/b.txt": ["b"]} | ({"s/a.txt": ["old"]} if kept else {})
    await world.sync(inline({"a.txt": "new", "b.txt": "b"}))
    assert world.store.texts() == {"s/a.txt": ["new"], "s/b.txt": ["b"]}


def test_redaction_keeps_headings_and_pages_in_place() -> None:
    """Offsets move with the text."""
    text = "A a@b.org\n\nxx c@d.org yy\n\nB\n\nlast"
    at = text.index("B\n")
    parsed = Parsed(
        "T",
        text,
        headings=(Heading(0, 9, 1, "A a@b.org"), Heading(at, at + 1, 1, "B")),
        pages=((0, 1), (at, 2)),
    )
    found = redacted(parsed)
    assert found.text == "A [EMAIL]\n\nxx [EMAIL] yy\n\nB\n\nlast"
    assert [found.text[heading.start : heading.end] for heading in found.headings] == ["A [EMAIL]", "B"]
    assert found.text[found.pages[1][0] :].startswith("B")
    assert found.redactions == 2


async def test_unreadable_bytes_are_counted(world: World) -> None:
    """A file with a few broken bytes is indexed, and the report says so."""
    folder = world.settings.volumes / "docs"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes("caf\u00e9 \u00fcber \u00f6l".encode() + b"\xff")
    report = await world.sync({"name": "v", "pvc": {"claimName": "docs"}})
    assert report.pipeline == PipelineCounts(repaired=1)
    assert world.store.texts() == {"v/a.txt": ["caf\u00e9 \u00fcber \u00f6l\ufffd"]}


async def test_a_sidecar_file_says_what_its_document_is(world: World) -> None:
    """It is no document itself, is taken by no pattern of its own, and a change of it is a change of the document."""
    folder = world.settings.volumes / "docs"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("text")
    (folder / "a.txt.metadata.json").write_text('{"team": "core"}')
    volume: dict[str, Any] = {"name": "v", "pvc": {"claimName": "docs", "include": ["**/*.txt"]}}
    report = await world.sync(volume)
    assert [(chunk.path, chunk.metadata) for chunk in world.store.chunks.values()] == [
        ("a.txt", {"team": "core"})
    ]
    assert (await world.sync(volume)).embedded == 0
    (folder / "a.txt.metadata.json").write_text('{"team": "sales"}')
    report = await world.sync(volume)
    assert report.embedded == 1
    assert [chunk.metadata for chunk in world.store.chunks.values()] == [{"team": "sales"}]
    (folder / "a.txt.metadata.json").write_text('{"team": ["sales"]}')
    report = await world.sync(volume)
    assert [(failure.document, failure.reason) for failure in report.failures] == [("v/a.txt", "Malformed")]


async def test_passages_know_where_they_are(world: World) -> None:
    """Offsets are those of the document's text; headings are kept also where passages cross them."""
    text = "# A\n\none two\n\n## B\n\nthree four"
    await world.sync(inline({"a.md": text}), chunking={"strategy": "Sentence", "size": 16, "overlap": 0})
    chunks = sorted(world.store.chunks.values(), key=lambda chunk: chunk.position)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert [(chunk.text, chunk.heading) for chunk in chunks] == [(text, "")]
    await world.sync(
        inline({"a.md": text + "."}), chunking={"strategy": "Markdown", "size": 16, "overlap": 0}
    )
    chunks = sorted(world.store.chunks.values(), key=lambda chunk: chunk.position)
    assert [(chunk.text, chunk.heading) for chunk in chunks] == [("one two", "A"), ("three four.", "A > B")]


@pytest.mark.parametrize(("text", "least", "most"), [(STORY, 1, 1), (NEARLY, 0.9, 1), (OTHER, 0, 0.1)])
def test_similarity_is_estimated(text: str, least: float, most: float) -> None:
    """One word in two hundred makes little difference; other words make all."""
    assert least <= similarity(signature(STORY), signature(text)) <= most


def test_short_texts_have_no_signature() -> None:
    """An estimate of few words means nothing; characters of scripts without spaces are words."""
    assert signature("few words only") == b""
    assert len(signature("\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044\u3067\u3059" * 3)) == 256


@given(st.integers(0, 60))
def test_similarity_follows_the_shared_share(changed: int) -> None:
    """The estimate is within four standard errors of the true share of common runs."""
    words = [f"w{number}" for number in range(100)]
    other = [f"x{number}" if number < changed else word for number, word in enumerate(words)]
    common = max(0, 98 - changed)
    share = common / (196 - common)
    estimate = similarity(signature(" ".join(words)), signature(" ".join(other)))
    assert abs(estimate - share) <= 4 * (share * (1 - share) / 64) ** 0.5 + 0.02
