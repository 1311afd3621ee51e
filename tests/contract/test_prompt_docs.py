# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/prompts.md do what the page shows; tests/e2e runs those that need a cluster."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lateen_cli.main import application
from stack.prompt_page import blocks, files, languages, save


def commands() -> Iterator[tuple[str, str]]:
    """Each command with the output that the page shows."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the files in it."""
    save(tmp_path)
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


def test_every_block_is_run_somewhere() -> None:
    """Commands stand in `console` blocks with their output, or in `sh` blocks, which tests/e2e runs."""
    assert languages() == {"yaml", "console", "sh"}
    for block in blocks("sh"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
