# SPDX-License-Identifier: Apache-2.0
"""`lateen sync` on what kubectl prints."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lateen_api import names
from lateen_cli import syncing
from lateen_cli.main import application
from lateen_cli.state import Unusable

SOURCES = [
    {"name": "site", "documents": 7, "changed": 2, "removed": 1},
    {
        "name": "book",
        "documents": 3,
        "failed": 1,
        "reason": "SourceUnauthorized",
        "message": "check Secret x",
    },
]


class Cluster:
    """A kubectl that keeps the annotation and prints the index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "kubectl"
        program.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {folder}/calls\n'
            f"if [ $1 = annotate ]; then echo \"$@\" | sed 's/.*sync=//' > {folder}/asked; exit; fi\n"
            f'sed "s|ASKED|$(cat {folder}/asked 2>/dev/null)|" {folder}/index.json\n'
        )
        program.chmod(0o700)

    def index(self, spec: dict[str, Any] | None = None, **status: Any) -> None:
        (self.folder / "index.json").write_text(json.dumps({"spec": spec or {}, "status": status}))

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The user's own."""
    monkeypatch.setenv("LATEEN_TOOLS", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "/home/user/config")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("LATEEN_STATE_DIR", raising=False)
    return Cluster(tmp_path)


def test_a_synchronization_is_asked_for(cluster: Cluster) -> None:
    """By a new value of the annotation; without --wait that is all."""
    cluster.index()
    shown = CliRunner().invoke(application, ["sync", "rag/handbook", "-n", "team"])
    assert (shown.exit_code, shown.output) == (0, "rag/handbook will be synchronized.\n")
    get, annotate = cluster.calls()
    assert get.startswith("get ragindexes.lateen.dev handbook --namespace team")
    assert (
        f"annotate ragindexes.lateen.dev handbook --namespace team --overwrite {names.SYNC_ANNOTATION}=2"
        in annotate
    )


@pytest.mark.parametrize(("failed", "status"), [(0, 0), (1, 1)])
def test_the_end_is_waited_for_and_told(cluster: Cluster, failed: int, status: int) -> None:
    """Each source with its counts and its reason; something that failed is the exit status."""
    cluster.index(lastHandledSync="ASKED", failed=failed, sources=SOURCES)
    shown = CliRunner().invoke(application, ["sync", "ragindex/handbook", "--wait"])
    assert shown.exit_code == status
    assert "SourceUnauthorized: check Secret x" in shown.output
    assert [part.strip() for part in shown.output.splitlines()[3].split("│")[1:6]] == [
        "site",
        "7",
        "2",
        "1",
        "0",
    ]


WHEN = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}


@pytest.mark.parametrize("reason", ["SourceUnavailable", "QualityCheckFailed"])
def test_what_was_built_but_does_not_answer_is_a_failure(cluster: Cluster, reason: str) -> None:
    """A build that lacks a source, or that finds too little, stays behind the one before, which failed in nothing; the
    reason is told.
    """
    condition = {"type": "Ready", "status": "False", "reason": reason, "message": "no host", **WHEN}
    cluster.index(lastHandledSync="ASKED", failed=0, conditions=[condition])
    shown = CliRunner().invoke(application, ["sync", "rag/handbook", "--wait"])
    assert shown.exit_code == 1
    assert f"Ready is False ({reason}): no host" in shown.output


@pytest.mark.parametrize(
    ("handled", "expected"),
    [
        (None, False),
        ("2026-01-01T00:00:00.000001+00:00", True),
        ("2026-01-01T00:00:00.000002+00:00", True),
        ("2026-01-01T00:00:00.000000+00:00", False),
        ("2027-01-01", False),
        ("now", False),
    ],
)
def test_a_later_request_answers_an_earlier_one(handled: str | None, expected: bool) -> None:
    """Two who ask at the same time share a build, which knows the later value only."""
    assert syncing.is_answered(handled, "2026-01-01T00:00:00.000001+00:00") is expected


def test_names_of_documents_are_shown_as_they_are(cluster: Cluster) -> None:
    """Whoever writes the documents neither colours nor steers the terminal."""
    failure = {"document": "book/[red]a[/red].md", "reason": "Unreadable", "message": "a\x1b[2Jb"}
    source = {"name": "book", "documents": 1, "failed": 1}
    cluster.index(lastHandledSync="ASKED", failed=1, sources=[source], failures=[failure])
    shown = CliRunner().invoke(application, ["sync", "rag/handbook", "--wait"])
    assert "book/[red]a[/red].md: a\\x1b[2Jb" in shown.output


def test_waiting_has_an_end(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says how the index stands."""
    monkeypatch.setattr(syncing, "POLL_SECONDS", 0.01)
    condition = {"type": "Ready", "status": "False", "reason": "BuildFailed", "message": "no memory", **WHEN}
    cluster.index(lastHandledSync="earlier", conditions=[condition])
    shown = CliRunner().invoke(application, ["sync", "rag/handbook", "--wait", "--timeout", "1"])
    assert isinstance(shown.exception, Unusable)
    assert str(shown.exception).endswith("within 1 s; Ready is False (BuildFailed): no memory")


def test_a_suspended_index_is_not_asked(cluster: Cluster) -> None:
    """It would not answer."""
    cluster.index({"suspend": True})
    shown = CliRunner().invoke(application, ["sync", "rag/handbook"])
    assert isinstance(shown.exception, Unusable)
    assert "suspended" in str(shown.exception)
    assert len(cluster.calls()) == 1


@pytest.mark.parametrize("target", ["handbook", "md/chat", "rag/", "rag/a/b"])
def test_only_indexes_are_synchronized(target: str) -> None:
    """With the form that is expected."""
    with pytest.raises(Unusable, match="rag/NAME"):
        syncing.named(target)
