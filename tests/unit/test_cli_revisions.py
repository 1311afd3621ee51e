# SPDX-License-Identifier: Apache-2.0
"""`lateen history` and `lateen rollback` on what kubectl prints."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lateen_api import names
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_cli import kept, model_history
from lateen_cli.kept import Kind, Target
from lateen_cli.main import application
from lateen_cli.state import StateDir, Unusable
from unit import cli_kubectl


def spec(uri: str, **more: Any) -> dict[str, Any]:
    """A model's spec."""
    return {"task": "generate", "source": {"uri": uri}, "replicas": 1, **more}


def revision_of(uri: str) -> str:
    """The revision of that spec."""
    return ModelDeploymentSpec.model_validate(spec(uri)).revision()


def controller_revision(number: int, uri: str, aborted: str = "") -> dict[str, Any]:
    """A ControllerRevision as kubectl prints it."""
    whole = ModelDeploymentSpec.model_validate(spec(uri)).dump()
    return {
        "metadata": {
            "name": f"chat-md-{number}",
            "labels": {names.REVISION_LABEL: revision_of(uri)},
            "creationTimestamp": f"2026-01-0{number}T00:00:00Z",
            "annotations": {names.ABORTED_ANNOTATION: aborted} if aborted else {},
        },
        "revision": number,
        "data": {part: whole[part] for part in ("task", "source", "engine", "resources")},
    }


def model(uri: str, *traffic: tuple[str, int]) -> dict[str, Any]:
    """A ModelDeployment as kubectl prints it; `traffic` by uri."""
    shares = [{"revision": revision_of(of), "weight": weight} for of, weight in traffic]
    metadata = {"name": "chat", "namespace": "team", "uid": "u1"}
    return {"metadata": metadata, "spec": spec(uri), "status": {"traffic": shares}}


ITEMS = [
    controller_revision(1, "pvc://m/a"),
    controller_revision(3, "pvc://m/c"),
    controller_revision(2, "pvc://m/b", "2 of 10 failed"),
]


def test_the_history_says_what_became_of_each_revision() -> None:
    """Newest first: the one that serves, the one that is on its way, the one that was given up and why."""
    found = kept.kept(model("pvc://m/c", ("pvc://m/a", 90), ("pvc://m/c", 10)), ITEMS)
    assert [each.number for each in found.revisions] == [3, 2, 1]
    states = [model_history.state(found, each) for each in found.revisions]
    assert states == ["takes 10 %", "given up: 2 of 10 failed", "takes 90 %"]
    alone = kept.kept(model("pvc://m/c", ("pvc://m/a", 100)), ITEMS)
    assert [model_history.state(alone, each) for each in alone.revisions][::2] == ["wanted", "serves"]
    console = Console(width=200, record=True)
    console.print(model_history.table(found))
    assert "pvc://m/b" in console.export_text()


@pytest.mark.parametrize(
    ("present", "to", "number"),
    [
        ("pvc://m/c", None, 1),
        ("pvc://m/a", None, 3),
        ("pvc://m/new", None, 3),
        ("pvc://m/c", "2", 2),
        ("pvc://m/c", revision_of("pvc://m/a"), 1),
    ],
)
def test_a_rollback_goes_to_the_last_good_or_to_the_named_revision(
    present: str, to: str | None, number: int
) -> None:
    """By hash or by number; one that was given up only when it is named."""
    assert model_history.choose(kept.kept(model(present), ITEMS), to).number == number


@pytest.mark.parametrize(
    ("items", "to", "words"),
    [
        (ITEMS, "7", "no revision 7. Kept: "),
        (ITEMS, "3", "already"),
        ([ITEMS[1], ITEMS[2]], None, "no earlier revision"),
        ([], None, "Kept: none"),
    ],
)
def test_an_impossible_rollback_says_why(items: list[dict[str, Any]], to: str | None, words: str) -> None:
    """And what there is."""
    with pytest.raises(Unusable, match=words):
        model_history.choose(kept.kept(model("pvc://m/c"), items), to)


def test_a_rollback_writes_the_revision_whole_and_nothing_else() -> None:
    """What is newer in these parts goes; replicas, scaling, routing, limits and adapters stay."""
    chosen = model_history.choose(kept.kept(model("pvc://m/c"), ITEMS), "1")
    changes = model_history.patch(chosen)
    assert {change["path"] for change in changes} == {
        "/spec/task",
        "/spec/source",
        "/spec/engine",
        "/spec/resources",
    }
    newer = spec("pvc://m/c", engine={"maxModelLen": 64}, limits={"maxQueuedRequests": 3})
    for change in changes:
        newer[change["path"].removeprefix("/spec/")] = change["value"]
    after = ModelDeploymentSpec.model_validate(newer)
    assert after.revision() == revision_of("pvc://m/a")
    assert after.limits.max_queued_requests == 3


@pytest.mark.parametrize("target", ["md/chat", "ModelDeployment/chat", "modeldeployments.lateen.dev/chat"])
def test_a_model_is_named_as_kubectl_names_it(target: str) -> None:
    """By its short, singular, or full kind."""
    assert kept.target(target, *Kind) == Target(Kind.MODEL, "chat")


@pytest.mark.parametrize("target", ["chat", "pod/docs", "md/", "md/a/b"])
def test_anything_else_is_refused(target: str) -> None:
    """With the form that is expected."""
    with pytest.raises(Unusable, match="md/NAME"):
        kept.target(target, *Kind)


def test_the_cluster_is_the_stack_that_is_named_or_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--state-dir wins over KUBECONFIG; a stack that is not there is an error, not another cluster."""
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    own = {"LATEEN_TOOLS": str(tmp_path), "KUBECONFIG": "/home/user/config"}
    assert kept.cluster(None, own).kubeconfig is None
    with pytest.raises(Unusable, match="no stack in"):
        kept.cluster(tmp_path / "s", own)
    state = StateDir.at(tmp_path / "s")
    state.root.mkdir()
    state.kubeconfig.write_text("{}")
    assert kept.cluster(tmp_path / "s", own).kubeconfig == state.kubeconfig


def test_a_rollback_patches_through_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the model's namespace, with the user's own access, and it says what it did."""
    cli_kubectl.install(tmp_path, monkeypatch, model("pvc://m/c"), ITEMS)
    shown = CliRunner().invoke(application, ["rollback", "md/chat", "-n", "team", "--to", "2"])
    assert shown.exit_code == 0, shown.output
    assert f"goes back to revision {revision_of('pvc://m/b')}" in shown.output
    assert f"kubectl annotate controllerrevision chat-md-2 {names.ABORTED_ANNOTATION}-" in shown.output
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0].startswith("get modeldeployments.lateen.dev chat --namespace team")
    assert f"--selector={names.OWNER_LABEL}=u1" in calls[1]
    assert calls[2].startswith("patch modeldeployments.lateen.dev chat --namespace team --type=json")
    assert "pvc://m/b" in calls[2]
    listed = CliRunner().invoke(application, ["history", "md/chat"])
    assert listed.exit_code == 0
    assert revision_of("pvc://m/a") in listed.output
