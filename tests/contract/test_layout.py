# SPDX-License-Identifier: Apache-2.0
"""What holds for the whole tree: rooms, sizes, licence lines, versions."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("crds", "operator", "serving", "tests", "hack")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = [path for path in FILES if path.is_relative_to(ROOT / "tests")]
WAITING = ROOT / "tests" / "stack" / "waiting.py"
PACED = [ROOT / "tests/bench" / name for name in ("direct.py", "http_load.py")]
MAX_LINES = 400
MAX_FUNCTION_LINES = 50


def shown(path: Path) -> str:
    """A path as people write it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """A parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_no_packages(room: str) -> None:
    """`operator/__init__.py` would take the place of Python's own `operator` module."""
    assert not (ROOT / room / "__init__.py").exists()
    if room == "tests":
        assert not list((ROOT / room).rglob("__init__.py"))


def test_files_are_short() -> None:
    """A file that needs more lines is two files."""
    long = {
        shown(path): lines
        for path in FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MAX_LINES
    }
    assert not long


def test_functions_are_short() -> None:
    """A function that needs more lines is two functions."""
    long = [
        f"{shown(path)}:{node.lineno} {node.name}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert not long


def test_every_file_says_its_licence() -> None:
    """The first line, or the second after a `#!`."""
    line = "# SPDX-License-Identifier: Apache-2.0"
    assert not [shown(p) for p in FILES if line not in p.read_text(encoding="utf-8").splitlines()[:2]]


def test_every_module_says_what_it_is_for() -> None:
    """A docstring opens each file that has more than a name."""
    modules = [path for path in FILES if path.name != "__init__.py"]
    assert not [shown(path) for path in modules if not ast.get_docstring(tree(path))]


def _sleeps(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep"), args=args):
                if not (args and isinstance(args[0], ast.Constant) and args[0].value == 0):
                    yield node.lineno
            case ast.ImportFrom(module="time" | "asyncio", names=names):
                if any(name.name == "sleep" for name in names):
                    yield node.lineno


def test_tests_wait_for_something() -> None:
    """Sleeping is either too short or too long; `stack.waiting` polls, clients of a benchmark pause as clients do, and
    everything else waits on events.
    """
    may = {WAITING, *PACED}
    found = [f"{shown(p)}:{line}" for p in TESTS if p not in may for line in _sleeps(tree(p))]
    assert not found


def test_every_test_says_what_behaviour_it_proves() -> None:
    """One sentence as a docstring."""
    silent = [
        f"{shown(path)} {node.name}"
        for path in TESTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_changelog_and_version_agree() -> None:
    """The newest released section is the version that is built and installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert sections[0] == "Unreleased"
    assert sections[1] == project["version"] == version("lateen")


def test_the_licence_is_apache_2() -> None:
    """The full text, as the project's metadata say."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
