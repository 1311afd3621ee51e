# SPDX-License-Identifier: Apache-2.0
"""`lateen render`: messages of a file or of the cluster, and what is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lateen_cli.main import application
from unit import cli_kubectl
from unit.test_cli_prompt_history import ITEMS, TWO, template

FILE = """\
apiVersion: lateen.dev/v1alpha1
kind: PromptTemplate
metadata: {name: tell}
spec:
  version: "1"
  messages:
  - {role: system, content: "At most {count} words."}
  - {role: user, content: "Tell me of {topic}."}
  variables:
  - {name: topic, rules: [{maxLength: 20}]}
  - {name: count, type: integer, example: "7"}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A manifest with one prompt."""
    (tmp_path / "a.yaml").write_text(FILE)
    return str(tmp_path / "a.yaml")


def run(*arguments: str, given: str | None = None) -> tuple[int, str]:
    """Exit status and output of `lateen render`."""
    shown = CliRunner().invoke(application, ["render", *arguments], input=given)
    return shown.exit_code, shown.output


def test_a_file_is_rendered(file: str, tmp_path: Path) -> None:
    """With values of the right types, from the command line, a file, or the variable's example."""
    (tmp_path / "topic").write_text("tea")
    code, text = run(file, "--var", f"topic=@{tmp_path}/topic")
    assert (code, text) == (
        0,
        "[system]\nAt most 7 words.\n\n[user]\nTell me of tea.\n\n2 messages, 31 characters\n",
    )
    code, text = run("-", "--var", "topic=tea", "--var", "count=9", "-o", "json", given=FILE)
    assert code == 0
    assert json.loads(text)["messages"][0] == {"role": "system", "content": "At most 9 words."}
    assert json.loads(text)["characters"] == 31


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        (["topic=" + "x" * 21], 1, "maxLength is 20"),
        (["count=many", "topic=x"], 1, "'many' is not of type integer"),
        (["other=1", "topic=x"], 1, "unknown variable 'other'"),
        ([], 1, "'topic' is required"),
        (["topic"], 2, "NAME=VALUE"),
        (["topic=@/none"], 2, "can't be read"),
    ],
)
def test_a_wrong_variable_is_named(file: str, variables: list[str], code: int, words: str) -> None:
    """With the rule it breaks; what is no assignment at all is trouble."""
    options = [word for each in variables for word in ("--var", each)]
    assert run(file, *options)[0] == code
    assert words in run(file, *options)[1]
    if code == 1:
        assert words in json.loads(run(file, *options, "-o", "json")[1])["violations"][0]["message"]


def test_a_version_in_the_cluster_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The live one unless another is asked for."""
    cli_kubectl.install(tmp_path, monkeypatch, template(TWO, TWO), ITEMS)
    assert "all of tea." in run("pt/tell", "--var", "topic=tea")[1]
    code, text = run("pt/tell", "--var", "topic=tea", "--version", "1.1")
    assert (code, "Tell me\nof tea." in text) == (0, True)
    assert run("pt/tell", "--version", "0.1")[0] == 2


def violations(*arguments: str, given: str | None = None) -> list[tuple[str, str]]:
    """Path and variable of each thing that `lateen render` refuses."""
    code, text = run(*arguments, "-o", "json", given=given)
    assert code == 1
    return [(each["path"], each["variable"]) for each in json.loads(text)["violations"]]


def test_everything_wrong_is_told_at_once(file: str) -> None:
    """Each wrong variable once, whatever it breaks; of a wrong prompt, each wrong field."""
    wrong = ["--var", "topic=" + "x" * 21, "--var", "count=many", "--var", "other=1"]
    assert violations(file, *wrong) == [("", "count"), ("", "other"), ("", "topic")]
    broken = FILE.replace("Tell me of {topic}.", "{a} {b}")
    assert [path for path, _ in violations("-", given=broken)] == [
        "spec.messages[1].content",
        "spec.messages[1].content",
        "spec.variables[0]",
    ]


INJECTED = """\
apiVersion: lateen.dev/v1alpha1
kind: PromptTemplate
metadata: {name: injected}
spec:
  version: "1"
  messages:
  - {role: user, content: "{day} {who} {team} {ticket}\\n{found}"}
  variables:
  - {name: day, from: clock}
  - {name: who, from: identity}
  - {name: team, from: identity, identity: {attribute: tenant}}
  - {name: ticket, from: metadata, metadata: {key: t}}
  - {name: found, from: retrieval}
"""


def test_what_a_gateway_would_inject_can_be_given(tmp_path: Path) -> None:
    """The time, the caller, the metadata and the passages, without a cluster."""
    (tmp_path / "passage").write_text("two")
    options = [
        "--now",
        "2026-01-31T23:30:00-01:00",
        "--name",
        "ann",
        "--tenant",
        "blue",
        "--metadata",
        "t=42",
    ]
    found = ["--retrieved", "one", "--retrieved", f"@{tmp_path}/passage"]
    code, text = run("-", *options, *found, given=INJECTED)
    assert (code, text.startswith("[user]\n2026-02-01 ann blue 42\none\n\ntwo\n\n1 messages")) == (0, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--now", "noon"], "--now 'noon' is not a time"),
        (["--now", "2026-01-31T12:00:00"], "needs a time zone"),
        (["--metadata", "t"], "--metadata 't' is not"),
        (["--retrieved", "@/none"], "--retrieved: /none can't be read"),
        (["--retrieved", "one"], "no variable of this prompt is from: retrieval"),
    ],
)
def test_an_option_that_means_nothing_is_trouble(file: str, options: list[str], words: str) -> None:
    """The message names it and what it should be."""
    code, text = run(file if words.startswith("no variable") else "-", *options, given=INJECTED)
    assert (code, words in text) == (2, True)


INCLUDING = """\
---
apiVersion: lateen.dev/v1alpha1
kind: PromptTemplate
metadata: {name: outer}
spec:
  version: "1"
  messages:
  - {include: {name: tell, version: "1"}}
  - {role: user, content: "Shortly."}
"""


def test_what_a_file_includes_is_looked_for_in_it() -> None:
    """The template that no other includes is rendered, another one by its version; a missing one is named."""
    code, text = run("-", "--var", "topic=tea", given=FILE + INCLUDING)
    assert (code, "3 messages" in text, "Tell me of tea." in text) == (0, True, True)
    other = FILE.replace('"1"', '"2"')
    assert "2 messages" in run("-", "--var", "topic=tea", "--version", "2", given=other + INCLUDING)[1]
    code, text = run("-", given=INCLUDING)
    assert (code, "PromptTemplate tell has no version '1'" in text) == (1, True)
    assert run("-", given=FILE + INCLUDING.replace("name: tell", "name: none"))[0] == 2
