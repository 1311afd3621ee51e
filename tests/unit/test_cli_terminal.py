# SPDX-License-Identifier: Apache-2.0
"""No text of a prompt or a value steers the terminal of who looks at it."""

import io
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from lateen_cli import difference
from lateen_cli.main import application
from lateen_cli.terminal import visible
from unit.test_cli_render import FILE

EVIL = "\x1b[2J\x1b]0;you\x07\r\x9b31m\u202eabc\u2066\x7f"


@given(st.text())
def test_what_is_visible_has_no_control_characters(text: str) -> None:
    """But tabs and line feeds; what has none stays as it is."""
    shown = visible(text)
    assert not [each for each in shown if unicodedata.category(each) == "Cc" and each not in "\t\n"]
    assert shown == text or len(shown) > len(text)
    assert visible(shown) == shown


def on_terminal(*arguments: str) -> str:
    """What `lateen` writes to a terminal, which is its standard output and standard error."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "lateen_cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            timeout=60,
            check=False,
        )
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A prompt with a value that would clear the screen and name the window."""
    (tmp_path / "a.yaml").write_text(FILE.replace("maxLength: 20", "maxLength: 99"))
    (tmp_path / "evil").write_text(EVIL)
    return [str(tmp_path / "a.yaml"), "--var", f"topic=@{tmp_path}/evil"]


def test_a_terminal_is_not_steered(arguments: list[str]) -> None:
    """By no value in a message, and by nothing that is said of what is wrong."""
    shown = on_terminal("render", *arguments)
    assert "Tell me of \\x1b[2J\\x1b]0;you\\x07\\r\\x9b31m\\u202eabc\\u2066\\x7f." in shown
    shown = on_terminal("render", *arguments, "-o", "json")
    assert "\\u001b[2J\\u001b]0;you\\u0007\\r\\u009b31m\\u202eabc\\u2066\\u007f." in shown
    assert "\\x1b[2J can't be read" in on_terminal("render", "\x1b[2J")
    assert "\\x1b[2J can't be read" in on_terminal("validate", "\x1b[2J")


def test_programs_get_the_text_as_it_is(arguments: list[str]) -> None:
    """A pipe is no terminal."""
    shown = CliRunner().invoke(application, ["render", *arguments])
    assert f"Tell me of {EVIL}." in shown.output


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_diff_is_harmless(is_terminal: bool) -> None:
    """Also where YAML writes a character as it is."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, color_system=None)
    difference.show(console, difference.lines({"a": "x"}, {"a": "\u202ex"}, "1", "2"))
    assert ("\u202e" in out.getvalue()) is not is_terminal
