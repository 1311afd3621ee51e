# SPDX-License-Identifier: Apache-2.0
"""Which files of a source are taken."""

import pytest

from lateen_serving.rag.globs import Selection, matches


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a.md", "**/*.md", True),
        ("x/y/a.md", "**/*.md", True),
        ("x/a.md", "*.md", False),
        ("docs/x/a.md", "docs/**/*.md", True),
        ("docs/a.md", "docs/**/*.md", True),
        ("other/a.md", "docs/**/*.md", False),
        ("docs/a.md", "docs/**", True),
        ("a.txt", "**/*.md", False),
        ("a1.md", "a[0-9].md", True),
        ("ab.md", "a?.md", True),
        ("a/b.md", "a?b.md", False),
        (".git/a.md", "**/*.md", False),
        ("x/.a.md", "**/*.md", False),
        (".github/a.md", ".github/*.md", True),
        ("..data/a.md", "**/*.md", False),
        ("a/b/c/d", "**/b/**/d", True),
    ],
)
def test_patterns(path: str, pattern: str, expected: bool) -> None:
    """`**` crosses folders, the rest stays within one name, hidden names need a dot in the pattern."""
    assert matches(path, pattern) is expected


def test_hostile_patterns_are_fast() -> None:
    """A pattern full of stars needs no more than a moment (the test's own timeout would end it)."""
    assert not matches("/".join("a" * 60 for _ in range(30)), "/".join(["**", "*a*a*a*a*a*b"] * 15))


def test_exclude_wins() -> None:
    """An excluded file is not taken even if it is included."""
    selection = Selection(["**/*.md"], ["drafts/**"])
    assert [path for path in ("a.md", "drafts/a.md") if selection.takes(path)] == ["a.md"]
