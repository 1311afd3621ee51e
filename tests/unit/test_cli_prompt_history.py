# SPDX-License-Identifier: Apache-2.0
"""`lateen history`, `rollback` and `diff` of a PromptTemplate, on what kubectl prints."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lateen_api import names
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_cli import difference, kept, prompt_history
from lateen_cli.main import application
from lateen_cli.state import Unusable
from unit import cli_kubectl


def spec(version: str, text: str, **more: Any) -> dict[str, Any]:
    """A prompt's spec."""
    messages = [{"role": "user", "content": text}]
    return {"version": version, "messages": messages, "variables": [{"name": "topic"}], **more}


def revision_of(content: dict[str, Any]) -> str:
    """Its revision."""
    return PromptTemplateSpec.model_validate(content).revision()


ONE = spec("1.1", "Tell me\nof {topic}.")
TWO = spec("1.2", "Tell me\nall of {topic}.")
REUSED = spec("1.2", "{topic}!")


def controller_revision(number: int, content: dict[str, Any]) -> dict[str, Any]:
    """A ControllerRevision as kubectl prints it."""
    whole = PromptTemplateSpec.model_validate(content).dump()
    return {
        "metadata": {
            "name": f"tell-pt-{number}",
            "labels": {names.REVISION_LABEL: revision_of(content)},
            "creationTimestamp": f"2026-01-0{number}T00:00:00Z",
        },
        "revision": number,
        "data": {"spec": whole, "previous": "abc"},
    }


def template(content: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """A PromptTemplate as kubectl prints it."""
    metadata = {"name": "tell", "namespace": "team", "uid": "u1"}
    return {"metadata": metadata, "spec": content, "status": {"revision": revision_of(live)}}


ITEMS = [controller_revision(1, ONE), controller_revision(2, TWO), controller_revision(3, REUSED)]


def test_the_history_says_which_version_is_live() -> None:
    """Newest first, with what is on its way."""
    found = kept.kept(template(REUSED, TWO), ITEMS)
    states = [prompt_history.state(found, each) for each in found.revisions]
    assert states == ["wanted", "live", "superseded"]
    console = Console(width=200, record=True)
    console.print(prompt_history.table(found))
    assert "1.1" in console.export_text()


@pytest.mark.parametrize(
    ("to", "chosen"),
    [(None, TWO), ("1.1", ONE), (revision_of(TWO), TWO)],
    ids=["the one before", "by version", "by revision"],
)
def test_a_rollback_writes_the_whole_prompt(to: str | None, chosen: dict[str, Any]) -> None:
    """The spec is the kept one again, but for what says how revisions are kept."""
    present = REUSED | {"retention": "1h", "revisionHistoryLimit": 3}
    found = kept.kept(template(present, REUSED), ITEMS)
    (change,) = prompt_history.patch(found, prompt_history.choose(found, to))
    assert change["path"] == "/spec"
    after = PromptTemplateSpec.model_validate(change["value"])
    assert after.revision() == revision_of(chosen)
    assert (after.retention, after.revision_history_limit) == ("1h", 3)


@pytest.mark.parametrize(
    ("to", "words"), [("7", "no version 7. Kept: 1.2, 1.1"), ("1.2", "version 1.2 already")]
)
def test_an_impossible_rollback_says_why(to: str, words: str) -> None:
    """And what there is; a reused label means its newest content."""
    found = kept.kept(template(REUSED, REUSED), ITEMS)
    with pytest.raises(Unusable, match=words):
        prompt_history.choose(found, to)


def test_a_diff_shows_the_line_that_changed() -> None:
    """Texts of several lines are compared line by line."""
    one, two = (
        prompt_history.content(each) for each in reversed(kept.kept(template(TWO, TWO), ITEMS).revisions[1:])
    )
    lines = difference.lines(one, two, "1.1", "1.2")
    assert "-    of {topic}." in lines
    assert "+    all of {topic}." in lines
    assert not [line for line in lines if line.startswith(("+", "-")) and "Tell me" in line]
    assert not difference.lines(one, one, "1.1", "1.1")


def test_the_diff_is_coloured_only_on_a_terminal() -> None:
    """And no line is broken, however narrow the terminal is."""
    lines = ["--- a", "+++ b", "-old " + "word " * 40, "+new"]
    for is_terminal in (True, False):
        console = Console(
            force_terminal=is_terminal, width=20, color_system="standard" if is_terminal else "auto"
        )
        with console.capture() as shown:
            difference.show(console, lines)
        assert ("\x1b[" in shown.get()) is is_terminal
        assert len(shown.get().splitlines()) == len(lines)


def test_the_commands_go_through_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """History, rollback, and a diff whose exit status says whether there is one: 0, 1, or 2 for trouble."""
    cli_kubectl.install(tmp_path, monkeypatch, template(TWO, TWO), ITEMS)

    def run(*arguments: str) -> tuple[int, str]:
        shown = CliRunner().invoke(application, list(arguments))
        return shown.exit_code, shown.output

    code, text = run("rollback", "pt/tell", "--to", "1.1")
    assert (code, "goes back to version 1.1" in text) == (0, True), text
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[2].startswith("patch prompttemplates.lateen.dev tell --namespace team --type=json")
    assert "1.1" in run("history", "pt/tell")[1]
    code, text = run("diff", "pt/tell", "1.1", revision_of(TWO))
    assert (code, "+    all of {topic}." in text) == (1, True), text
    assert run("diff", "pt/tell", revision_of(TWO)) == (0, "")
    assert run("diff", "pt/tell", "0.1")[0] == 2
