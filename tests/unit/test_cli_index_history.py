# SPDX-License-Identifier: Apache-2.0
"""`lateen history`, `rollback` and `diff` of a RAGIndex on what kubectl prints."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lateen_api import names
from lateen_api.rag_index import REVISED, RAGIndexSpec
from lateen_cli import index_history, kept
from lateen_cli.main import application
from lateen_cli.state import Unusable
from unit import cli_kubectl


def spec(size: int, **more: Any) -> dict[str, Any]:
    """An index's spec."""
    source = {"name": "notes", "inline": {"documents": [{"name": "a.md", "text": "a"}]}}
    embedding = {"modelRef": {"name": "minilm"}}
    return {"sources": [source], "embedding": embedding, "chunking": {"size": size}, **more}


def revision_of(size: int, embedder: str = "e1") -> str:
    """The revision of that spec."""
    return RAGIndexSpec.model_validate(spec(size)).revision(embedder)


def controller_revision(number: int, size: int, embedder: str = "e1") -> dict[str, Any]:
    """A ControllerRevision as kubectl prints it."""
    whole = RAGIndexSpec.model_validate(spec(size)).dump()
    return {
        "metadata": {
            "name": f"docs-rag-{number}",
            "labels": {names.REVISION_LABEL: revision_of(size, embedder)},
            "creationTimestamp": f"2026-01-0{number}T00:00:00Z",
        },
        "revision": number,
        "data": {part: whole[part] for part in REVISED} | {"embedder": {"revision": embedder}},
    }


def resource(size: int, live: str, *there: str, **more: Any) -> dict[str, Any]:
    """A RAGIndex as kubectl prints it; the collections of `live` and `there` exist."""
    rows = [{"revision": name, "documents": 7, "live": name == live} for name in (live, *there)]
    metadata = {"name": "docs", "namespace": "team", "uid": "u1"}
    return {"metadata": metadata, "spec": spec(size, **more), "status": {"revision": live, "revisions": rows}}


ITEMS = [controller_revision(2, 100), controller_revision(3, 120), controller_revision(1, 80)]


def test_the_history_says_which_is_live_and_which_are_kept() -> None:
    """Newest first, with documents and the embedder's revision."""
    found = kept.kept(resource(120, revision_of(120), revision_of(100)), ITEMS)
    assert [index_history.state(found, each) for each in found.revisions] == ["live", "kept", "gone"]
    console = Console(width=200, record=True)
    console.print(index_history.table(found))
    text = console.export_text()
    assert "minilm@e1" in text
    assert text.splitlines()[1].split()[:2] == ["3", revision_of(120)]


@pytest.mark.parametrize(
    ("size", "live", "to", "number"),
    [
        (120, 120, None, 2),
        (100, 100, None, 3),
        (140, 120, None, 3),  # a revision that never went live: back to the one that answers
        (120, 120, "1", 1),
        (120, 120, revision_of(80), 1),
    ],
)
def test_a_rollback_goes_to_the_newest_that_the_spec_does_not_describe(
    size: int, live: int, to: str | None, number: int
) -> None:
    """Or to the one that is named, by hash or number."""
    found = kept.kept(resource(size, revision_of(live)), ITEMS)
    assert index_history.choose(found, to).number == number


@pytest.mark.parametrize(
    ("items", "to", "words"),
    [
        (ITEMS, "9", "no revision 9. Kept: "),
        (ITEMS, "3", "already"),
        (ITEMS[1:2], None, "no earlier revision .*revisionHistoryLimit"),
        ([], None, "Kept: none"),
        ([ITEMS[1], controller_revision(1, 120, "e0")], None, "lateen rollback md/minilm --to e0"),
        ([ITEMS[1], controller_revision(1, 120, "e0")], "1", "lateen rollback md/minilm --to e0"),
    ],
)
def test_an_impossible_rollback_says_why(items: list[dict[str, Any]], to: str | None, words: str) -> None:
    """What there is; and where only the embedder differs, how that goes back."""
    with pytest.raises(Unusable, match=words):
        index_history.choose(kept.kept(resource(120, revision_of(120)), items), to)


@pytest.mark.parametrize(
    ("items", "there", "more", "words"),
    [
        (ITEMS, [revision_of(100)], {}, ""),
        (ITEMS, [], {}, "built anew"),
        (
            [ITEMS[1], controller_revision(2, 100, "e0")],
            [revision_of(100, "e0")],
            {},
            "lateen rollback md/minilm --to e0",
        ),
        (ITEMS, [revision_of(100)], {"suspend": True}, "suspend is true"),
    ],
)
def test_a_rollback_tells_what_it_costs(
    items: list[dict[str, Any]], there: list[str], more: dict[str, Any], words: str
) -> None:
    """Nothing where the collection is there; else what has to happen first."""
    found = kept.kept(resource(120, revision_of(120), *there, **more), items)
    said = index_history.said(found, "docs", index_history.choose(found, "2"))
    first, *others = said.splitlines()
    assert first.startswith("ragindex docs goes back to revision ")
    assert words in " ".join(others) if words else not others


def test_the_command_writes_what_passages_and_vectors_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, so that nothing newer is left in these fields; sources, retrieval and schedule stay."""
    found = resource(120, revision_of(120), revision_of(100), retrieval={"limit": 9})
    cli_kubectl.install(tmp_path, monkeypatch, found, ITEMS)
    ran = CliRunner().invoke(application, ["rollback", "rag/docs", "-n", "team"])
    assert ran.exit_code == 0, ran.output
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0].startswith("get ragindexes.lateen.dev docs --namespace team")
    patch = json.loads(calls[-1].partition("--patch ")[2])
    assert {change["path"] for change in patch} == {f"/spec/{part}" for part in REVISED}
    after = found["spec"] | {change["path"].removeprefix("/spec/"): change["value"] for change in patch}
    spec = RAGIndexSpec.model_validate(after)
    assert spec.revision("e1") == revision_of(100)
    assert spec.retrieval.limit == 9
    shown = CliRunner().invoke(application, ["diff", "rag/docs", "2", "-n", "team"])
    assert shown.exit_code == 1
    assert "120" in shown.output
