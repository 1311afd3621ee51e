# SPDX-License-Identifier: Apache-2.0
"""Turning bytes into clean text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_serving.rag.parse import Parsed, ParseFailure, clean, parse


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("a/b.md", b"# Title\r\n\r\ntext", Parsed("Title", "# Title\n\ntext", markdown=True)),
        ("b.markdown", b"text", Parsed("b.markdown", "text", markdown=True)),
        ("B.MD", b"## Sub", Parsed("Sub", "## Sub", markdown=True)),
        ("c.txt", b"# no title", Parsed("c.txt", "# no title", markdown=False)),
        ("d.md", b"\xef\xbb\xbf---\nkey: 1\n---\n# T", Parsed("T", "# T", markdown=True)),
        (
            "e.md",
            b"---\n\nrule, not front matter",
            Parsed("e.md", "---\n\nrule, not front matter", markdown=True),
        ),
        ("f.txt", b"---\nkept: yes\n---\nx", Parsed("f.txt", "---\nkept: yes\n---\nx", markdown=False)),
        ("g.md", b"```\n# code\n```\n# T", Parsed("T", "```\n# code\n```\n# T", markdown=True)),
    ],
)
def test_text_and_title(path: str, data: bytes, expected: Parsed) -> None:
    """Markdown loses its front matter and gives its first heading as title; other text is taken as it is."""
    assert parse(path, data) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Empty"),
        (b" \n\t\n", "Empty"),
        (b"---\na: 1\n---\n", "Empty"),
        ("\u200b\ufeff\u00ad".encode(), "Empty"),
        (b"\x89PNG\0", "NotText"),
        (b"caf\xe9", "NotText"),
        ("text".encode("utf-16"), "NotText"),
    ],
)
def test_what_is_no_text_fails_with_a_reason(data: bytes, reason: str) -> None:
    """Binary and foreign encodings are NotText; nothing to see is Empty."""
    with pytest.raises(ParseFailure) as failure:
        parse("x.md", data)
    assert failure.value.reason == reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e\u0301", "\u00e9"),
        ("a\u200bb\u2060c\ufeff", "abc"),
        ("pass\u00adword", "password"),
        ("a\u202eb\u2066c", "abc"),
        ("x\U000e0041\U000e0042y", "xy"),
        ("a\u200db", "ab"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\u0645\u200c\u200d\u200c\u0645", "\u0645\u200c\u0645"),
        ("a\rb\u2028c\x0cd", "a\nb\nc\nd"),
        ("a  \n\n\n\n b\x07", "a\n\n b"),
    ],
)
def test_invisible_characters_go(text: str, expected: str) -> None:
    """What a reader can't see is removed; joiners that shape letters stay, one at a time."""
    assert clean(text) == expected


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """Clean text stays as it is."""
    assert clean(clean(text)) == clean(text)
