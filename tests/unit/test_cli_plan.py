# SPDX-License-Identifier: Apache-2.0
"""`lateen plan` on what kubectl prints."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.rag_index import RAGIndexSpec
from lateen_cli.main import application
from lateen_cli.state import Unusable
from stack import manifests

SOURCES = {"docs": manifests.inline({"a.md": "The zebra is purple."})}
MODEL = manifests.model("default", "embedder", "embed", "tiny-embed")
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}  # fmt: skip


def index(**spec: Any) -> dict[str, Any]:
    """The RAGIndex as a user writes it."""
    return manifests.index("default", "notes", "embedder", SOURCES, **spec)


class Cluster:
    """A kubectl that knows an index and a model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "kubectl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {folder}/calls\ncat {folder}/"$2".json 2>/dev/null; true\n'
        )
        program.chmod(0o700)

    def put(self, plural: str, manifest: dict[str, Any], status: dict[str, Any]) -> None:
        (self.folder / f"{plural}.lateen.dev.json").write_text(json.dumps(manifest | {"status": status}))

    def plan(self, *manifests: dict[str, Any], options: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit status and output for a file of `manifests`."""
        file = self.folder / "new.yaml"
        file.write_text(yaml.safe_dump_all(manifests))
        shown = CliRunner().invoke(application, ["plan", "rag/notes", "-f", str(file), *options])
        if isinstance(shown.exception, Unusable):
            raise shown.exception
        return shown.exit_code, shown.output


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The user's own, with a live index of 1000 documents and its embedder."""
    monkeypatch.setenv("LATEEN_TOOLS", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "/home/user/config")
    monkeypatch.delenv("LATEEN_STATE_DIR", raising=False)
    made = Cluster(tmp_path)
    embedder = ModelDeploymentSpec.model_validate(MODEL["spec"]).revision()
    live = RAGIndexSpec.model_validate(index()["spec"]).revision(embedder)
    status = {
        "revision": live, "documents": 1000, "chunks": 5000, "tokens": 600_000,
        "sources": [{"name": "docs", "documents": 1000}],
        "quality": {"dimension": 384},
        "embedding": {"embedder": "embedder", "passages": 5000, "tokens": 600_000, "seconds": 300},
    }  # fmt: skip
    made.put("ragindexes", index(), status)
    made.put("modeldeployments", MODEL, READY)
    return made


def test_a_rebuild_is_told_with_its_cause_and_its_work(cluster: Cluster) -> None:
    """Which field, what is embedded again, how long it takes and what it needs on disk; nothing is written."""
    code, told = cluster.plan(index(store={"distance": "dot"}))
    assert code == 0
    assert "rag/notes: a new collection is built beside the live one" in told
    assert "spec.store.distance: cosine -> dot   builds anew" in told
    assert "1,000 documents, about 5,000 passages, about 600,000 tokens" in told
    assert "about 5 min (2,000 tokens/s, as measured last)" in told
    assert "MiB, beside about" in told
    calls = (cluster.folder / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["get", "get"]


@pytest.mark.parametrize(
    ("spec", "action", "code"),
    [
        ({}, "None", 0),
        ({"retrieval": {"limit": 7}}, "InPlace", 2),
        ({"chunking": {"size": 99}}, "Rebuild", 2),
    ],
)
def test_pipelines_read_json_and_the_exit_status(
    cluster: Cluster, spec: dict[str, Any], action: str, code: int
) -> None:
    """With --exit-code 0 is no change and 2 a change."""
    found, told = cluster.plan(index(**spec), options=("-o", "json", "--exit-code"))
    assert (json.loads(told)["change"]["action"], found) == (action, code)


def test_the_embedder_of_the_file_counts(cluster: Cluster) -> None:
    """New weights in the same file build the index anew, though the index is as it was."""
    _, told = cluster.plan(index(), manifests.model("default", "embedder", "embed", "other"))
    assert "a new collection is built beside the live one" in told
    assert "the embedder, or an earlier change, asks for it" in told


def test_a_model_of_another_namespace_is_not_the_embedder(cluster: Cluster) -> None:
    """One of the same name in the same file: an index uses those of its own namespace only."""
    code, told = cluster.plan(
        manifests.model("elsewhere", "embedder", "embed", "other"), index(), options=("--exit-code",)
    )
    assert (code, "nothing would change" in told) == (0, True)


def test_an_index_that_is_not_there_is_created(cluster: Cluster) -> None:
    """Nothing is known of the work then."""
    (cluster.folder / "ragindexes.lateen.dev.json").unlink()
    code, told = cluster.plan(index(), options=("--exit-code",))
    assert (code, "the first collection is built" in told) == (2, True)
    assert "source docs: is read, and all it holds is embedded" in told


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        (None, {}, "does not exist [ReferenceNotFound]"),
        (MODEL, {}, "is not Ready [ReferenceNotReady]"),
        (manifests.model("default", "embedder", "generate", "tiny-chat"), READY, "task: generate; use one with task: embed [Incompatible]"),
    ],
    ids=["missing", "not ready", "wrong task"],
)  # fmt: skip
def test_what_a_build_waits_for_is_said(
    cluster: Cluster, model: dict[str, Any] | None, status: dict[str, Any], words: str
) -> None:
    """An embedder that is missing, not ready or of another task: in words and with the status's reason."""
    (cluster.folder / "modeldeployments.lateen.dev.json").unlink()
    if model is not None:
        cluster.put("modeldeployments", model, status)
    code, told = cluster.plan(index(store={"distance": "dot"}))
    assert code == 0
    assert "It waits: ModelDeployment 'embedder'" in told
    assert words in told


def test_a_suspended_index_builds_nothing(cluster: Cluster) -> None:
    """The plan says what waits for its resumption."""
    _, told = cluster.plan(index(store={"distance": "dot"}, suspend=True))
    assert "spec.suspend is true: no source is read and nothing is built until it is false." in told


def test_a_file_that_would_be_refused_is_told_as_validate_does(cluster: Cluster) -> None:
    """With file, line, field and reason; the cluster is not asked."""
    code, told = cluster.plan(index(chunking={"size": 5}))
    assert code == 1
    assert "RAGIndex/notes: spec.chunking.size:" in told
    assert "[InvalidSpec]" in told
    assert not (cluster.folder / "calls").exists()


def test_the_index_is_found_among_several(cluster: Cluster) -> None:
    """By its name and namespace; one that is missing or twice there is refused with what the file has."""
    other = index() | {"metadata": {"name": "other", "namespace": "default"}}
    assert cluster.plan(other, index())[0] == 0
    with pytest.raises(Unusable, match="holds no RAGIndex 'notes'; its RAGIndexes: other"):
        cluster.plan(other)
    with pytest.raises(Unusable, match="2 times"):
        cluster.plan(index(), index())
    elsewhere = index() | {"metadata": {"name": "notes", "namespace": "elsewhere"}}
    assert cluster.plan(index(), elsewhere, options=("-n", "elsewhere"))[0] == 0
    with pytest.raises(Unusable, match="is not rag/NAME"):
        CliRunner().invoke(application, ["plan", "md/x", "-f", "-"], catch_exceptions=False)
