# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/prompts.md and docs/retrieval.md do what the pages show; tests/e2e runs those that need a cluster."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lateen_cli.main import application
from stack.prompt_page import PAGE, RETRIEVAL, blocks, files, languages, save

PAGES = pytest.mark.parametrize("page", [PAGE, RETRIEVAL], ids=lambda page: page.name)


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Each command with the output that the page shows."""
    for block in blocks("console", page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


@PAGES
def test_every_command_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, in one folder; `echo $?` is the exit status of the command before it."""
    save(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    status, wrong = 0, []
    for command, expected in commands(page):
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


@PAGES
def test_every_example_is_validated_and_rendered(page: Path) -> None:
    """No file of a page is only shown, and the page about prompts has three that are sound."""
    used = [shlex.split(command) for command, _ in commands(page)]
    validated = {words[2] for words in used if words[:2] == ["lateen", "validate"]}
    rendered = {words[2] for words in used if words[:2] == ["lateen", "render"]}
    assert validated == set(files(page))
    assert len(rendered) >= (3 if page == PAGE else 1)


@PAGES
def test_every_block_is_run_somewhere(page: Path) -> None:
    """Commands stand in `console` blocks with their output, or in `sh` blocks, which tests/e2e runs."""
    shown = {"json", ""} if page == RETRIEVAL else set()
    assert languages(page) == {"yaml", "console", "sh"} | shown
    for block in blocks("sh", page):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
