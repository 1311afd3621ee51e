# SPDX-License-Identifier: Apache-2.0
"""`lateen validate`: what it finds, where, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lateen_cli import documents, validate, yaml_values
from lateen_cli.main import application
from lateen_cli.state import Unusable

GOOD = """\
apiVersion: lateen.dev/v1alpha1
kind: PromptTemplate
metadata: {name: tell}
spec:
  version: "1"
  messages:
  - role: user
    content: Tell me of {topic}.
  variables:
  - name: topic
"""


def run(*arguments: str, given: str | None = None) -> tuple[int, str]:
    """Exit status and output of `lateen validate`."""
    shown = CliRunner().invoke(application, ["validate", *arguments], input=given)
    return shown.exit_code, shown.output


def findings(text: str, tmp_path: Path) -> list[dict[str, Any]]:
    """What is found in a file, as JSON."""
    file = tmp_path / "a.yaml"
    file.write_text(text)
    code, output = run(str(file), "-o", "json")
    found: list[dict[str, Any]] = json.loads(output)["findings"]
    assert code == (1 if found else 0)
    return found


def test_valid_files_end_with_zero(tmp_path: Path) -> None:
    """Several documents, a List, and kinds of others, which are passed over."""
    other = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: X_}\n"
    items = "---\nkind: List\nitems:\n" + "\n".join(
        ("- " if number == 0 else "  ") + line for number, line in enumerate(GOOD.splitlines())
    )
    file = tmp_path / "a.yaml"
    file.write_text(GOOD + other + items)
    assert run(str(file)) == (0, "2 resources valid\n")
    assert run("-", given=GOOD) == (0, "1 resource valid\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "reason"),
    [
        ("{topic}", "{other}", 8, "spec.messages[0].content", "InvalidTemplate"),
        ("{topic}", "{topic} {", 8, "spec.messages[0].content", "InvalidTemplate"),
        ("role: user", "role: boss", 7, "spec.messages[0].role", "InvalidSpec"),
        ('version: "1"', "version: 1", 5, "spec.version", "InvalidSpec"),
        ("name: topic", "name: topic\n    kind: x", 11, "spec.variables[0].kind", "InvalidSpec"),
        ('  version: "1"\n', "", 4, "spec.version", "InvalidSpec"),
        ("{name: tell}", "{name: Tell_}", 3, "metadata.name", "InvalidSpec"),
        ("kind: PromptTemplate", "kind: Prompt", 2, "kind", "InvalidSpec"),
    ],
)
def test_each_finding_has_its_place(
    old: str, new: str, line: int, path: str, reason: str, tmp_path: Path
) -> None:
    """The field with its line, and the reason that the operator would give."""
    found = findings(GOOD.replace(old, new), tmp_path)
    assert [(each["line"], each["path"], each["reason"]) for each in found][:1] == [(line, path, reason)]


def test_includes_are_looked_for_in_the_files(tmp_path: Path) -> None:
    """A template that is there is put in place and checked with the rest; one that is not has its reason."""
    old = "  - role: user\n    content: Tell me of {topic}.\n"
    whole = GOOD.replace("tell", "whole").replace(old, '  - include: {name: tell, version: "1"}\n')
    assert findings(f"{whole}---\n{GOOD}", tmp_path) == []
    assert [each["reason"] for each in findings(whole, tmp_path)] == ["ReferenceNotFound"]


def test_every_document_is_checked(tmp_path: Path) -> None:
    """A problem in the first hides none in the second, and the lines are those of the file."""
    bad = GOOD.replace("role: user", "role: boss")
    found = findings(f"{bad}---\n{bad}", tmp_path)
    assert [each["line"] for each in found] == [7, 18]
    code, text = run(str(tmp_path / "a.yaml"))
    assert code == 1
    assert f"{tmp_path}/a.yaml:7:5: PromptTemplate/tell: spec.messages[0].role:" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "not YAML"),
        (b"a: 1\na: 2", "a.yaml:2:1: key 'a' is given twice"),
        (b"- 1", "not an object"),
        (b"\xff\xfe\xfd", "can't be read"),
        (b"[" * 5000, "nested too deep"),
        (b"#" * (documents.MAX_BYTES + 1), "larger than"),
    ],
    ids=["syntax", "twice", "list", "binary", "depth", "size"],
)
def test_what_cannot_be_read_ends_with_two(content: bytes, words: str, tmp_path: Path) -> None:
    """And says why, instead of a traceback."""
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    code, text = run(str(file))
    assert (code, words in text) == (2, True), text
    with pytest.raises(Unusable):
        documents.read(str(tmp_path / "none.yaml"))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
FIELDS = st.sampled_from(
    ["version", "messages", "role", "content", "variables", "name", "rules", "schema", "examples", "include", "syntax",
     "contextWindow", "priority", "type", "from", "default", "sources", "git", "url", "task", "source", "uri", "x"]
)  # fmt: skip
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=25,
)


@settings(deadline=None)
@given(st.sampled_from(["PromptTemplate", "ModelDeployment", "RAGIndex", "X", 5]), ANY, ANY, st.booleans())
def test_no_document_breaks_it(kind: Any, metadata: Any, spec: Any, is_ours: bool) -> None:
    """Whatever is in it: there are findings, never a traceback, each with a place and words."""
    version = "lateen.dev/v1alpha1" if is_ours else "lateen.dev/v2"
    content = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
    (node,) = yaml_values.nodes(json.dumps(content))
    found = validate.check([documents.Document("a.json", *yaml_values.value(node))])
    assert found
    assert all(each.line >= 1 and each.column >= 1 and each.path and each.message for each in found)
