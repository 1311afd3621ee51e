# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/prompts.md do what the page shows."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lateen_cli.main import application

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prompts.md"
_BLOCK = re.compile(r"^```(yaml|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.yaml)\n")


def blocks(language: str) -> list[str]:
    """The page's fenced blocks in one language."""
    return [content for kind, content in _BLOCK.findall(PAGE.read_text()) if kind == language]


def files() -> dict[str, str]:
    """The files that a reader is asked to save, by their names."""
    found = [(_FILE.match(block), block) for block in blocks("yaml")]
    return {match[1]: block for match, block in found if match}


def commands() -> Iterator[tuple[str, str]]:
    """Each command with the output that the page shows."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the files in it."""
    for name, content in files().items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_prints_what_the_page_shows(folder: Path) -> None:
    """In order, in one folder; `echo $?` is the exit status of the command before it."""
    status, wrong = 0, []
    for command, expected in commands():
        if command == "echo $?":
            output = f"{status}\n"
        else:
            program, *arguments = shlex.split(command)
            assert program == "lateen"
            shown = CliRunner().invoke(application, arguments)
            status, output = shown.exit_code, shown.output
        if output != expected:
            wrong.append(f"$ {command}\n{output}")
    assert wrong == []


def test_every_example_is_validated_and_rendered() -> None:
    """No file of the page is only shown, and there are three that are sound."""
    used = [shlex.split(command) for command, _ in commands()]
    validated = {words[2] for words in used if words[:2] == ["lateen", "validate"]}
    rendered = {words[2] for words in used if words[:2] == ["lateen", "render"]}
    assert validated == set(files())
    assert len(rendered) >= 3
