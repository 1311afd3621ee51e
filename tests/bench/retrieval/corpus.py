# SPDX-License-Identifier: Apache-2.0
"""Documents that no one wrote for a test: the docstrings of Python's standard library and of the installed packages,
and the Markdown of the Go modules in the module cache, where there is one. Called by `measure.py`.
"""

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

LEAST_CHARACTERS = 300
"""Of a docstring; a shorter one says nothing that only it says."""

MOST_CHARACTERS = 8_000
PACKAGED, GO_MARKDOWN = 1_800, 200
"""Documents from the installed packages and from Go modules; the standard library is taken whole."""

_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "__pycache__"}
)


@dataclass(frozen=True)
class Item:
    """A document: `path` within its source, its title and what it says."""

    path: str
    title: str
    text: str

    @property
    def markdown(self) -> str:
        """The file."""
        return f"# {self.title}\n\n{self.text}\n"


def collect(packaged: int = PACKAGED, go_markdown: int = GO_MARKDOWN) -> list[Item]:
    """The documents in the order of their paths, no text twice; the same on one machine each time."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    found = list(docstrings(library, "stdlib"))
    found += islice(docstrings(packages, "packages", mixed=True), packaged)
    if (cache := _module_cache()).is_dir():
        found += islice(_markdown(cache), go_markdown)
    unique = {" ".join(item.text.split()): item for item in reversed(found)}
    return sorted(unique.values(), key=lambda item: item.path)


def docstrings(root: Path, source: str, *, mixed: bool = False) -> Iterator[Item]:
    """A document for each long docstring of the modules, classes and functions below `root`; `mixed`: not package by
    package but by chance, the same each time.
    """
    files = sorted(root.rglob("*.py"))
    for file in _mixed(files, root) if mixed else files:
        parts = file.relative_to(root).with_suffix("").parts
        if _SKIPPED & set(parts):
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        for name, node in _named(tree, module):
            text = ast.get_docstring(node) or ""
            if LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
                yield Item(f"{source}/{_file_name(name)}", name, text)


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _named(node: _Documented, name: str) -> Iterator[tuple[str, _Documented]]:
    """What may have a docstring, with its dotted name."""
    yield name, node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _named(child, f"{name}.{child.name}")


def _file_name(name: str) -> str:
    """Distinct for distinct names, upper and lower case and length aside."""
    return f"{name[:80]}-{_number(name):016x}.md"


def _module_cache() -> Path:
    go = os.environ.get("GOPATH") or str(Path.home() / "go")
    return Path(os.environ.get("GOMODCACHE") or f"{go}/pkg/mod")


def _markdown(cache: Path) -> Iterator[Item]:
    for file in _mixed(cache.glob("*/*/*/*.md"), cache):
        name = str(file.relative_to(cache))
        try:
            text = file.read_text()
        except (OSError, ValueError):
            continue
        if LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
            yield Item(f"go/{_file_name(name.replace('/', '.'))}", name, text)


def _mixed(files: Iterable[Path], root: Path) -> list[Path]:
    return sorted(files, key=lambda file: _number(str(file.relative_to(root))))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
