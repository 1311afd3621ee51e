# SPDX-License-Identifier: Apache-2.0
"""Pages of docs/ as their tests read them: `console` blocks need no cluster, `sh` blocks do."""

import re
from pathlib import Path

_DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = _DOCS / "prompts.md"
RETRIEVAL = _DOCS / "retrieval.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.yaml)\n")


def blocks(language: str, page: Path = PAGE) -> list[str]:
    """The page's fenced blocks in one language."""
    return [content for kind, content in _BLOCK.findall(page.read_text()) if kind == language]


def languages(page: Path = PAGE) -> set[str]:
    """Those of all fenced blocks."""
    return {kind for kind, _ in _BLOCK.findall(page.read_text())}


def files(page: Path = PAGE) -> dict[str, str]:
    """The files that a reader is asked to save, by their names."""
    found = [(_FILE.match(block), block) for block in blocks("yaml", page)]
    return {match[1]: block for match, block in found if match}


def save(folder: Path, page: Path = PAGE) -> None:
    """Save them as the reader does."""
    for name, content in files(page).items():
        (folder / name).write_text(content)
