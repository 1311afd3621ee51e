# SPDX-License-Identifier: Apache-2.0
"""docs/prompts.md as its tests read it: `console` blocks need no cluster, `sh` blocks do."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prompts.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.yaml)\n")


def blocks(language: str) -> list[str]:
    """The page's fenced blocks in one language."""
    return [content for kind, content in _BLOCK.findall(PAGE.read_text()) if kind == language]


def languages() -> set[str]:
    """Those of all fenced blocks."""
    return {kind for kind, _ in _BLOCK.findall(PAGE.read_text())}


def files() -> dict[str, str]:
    """The files that a reader is asked to save, by their names."""
    found = [(_FILE.match(block), block) for block in blocks("yaml")]
    return {match[1]: block for match, block in found if match}


def save(folder: Path) -> None:
    """Save them as the reader does."""
    for name, content in files().items():
        (folder / name).write_text(content)
