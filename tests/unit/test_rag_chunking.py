# SPDX-License-Identifier: Apache-2.0
"""Cutting text into passages."""

import re
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_serving.rag import chunking, markdown, outline, sentences
from lateen_serving.rag.chunking import Limits, Piece, Text


def words(text: str) -> list[tuple[int, int]]:
    """Spans of a tokenizer that knows words and single CJK characters."""
    return [match.span() for match in re.finditer(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", text)]


def pieces(text: str, limits: Limits, *, by_headings: bool = False) -> list[Piece]:
    """The passages of a Markdown text for an embedder that reads a thousand words."""
    body = Text(text, words(text), markdown.fences(text) if by_headings else ())
    sections = outline.sections(text, markdown.headings(text)) if by_headings else ()
    return chunking.cut(body, limits, 1000, sections)


def cut(text: str, size: int, overlap: int = 0, *, by_headings: bool = False) -> list[tuple[str, str]]:
    """Heading and text of each passage."""
    found = pieces(text, Limits.within(size, overlap, 1000), by_headings=by_headings)
    return [(piece.heading, piece.text) for piece in found]


@pytest.mark.parametrize(
    ("text", "size", "overlap", "expected"),
    [
        ("one two", 4, 0, ["one two"]),
        ("a b c d e f", 3, 0, ["a b c", "d e f"]),
        ("a b c d e f", 4, 2, ["a b c d", "c d e f"]),
        ("a b c\n\nd e f g", 4, 0, ["a b c", "d e f g"]),
        ("a b c. d e f", 4, 0, ["a b c.", "d e f"]),
        ("a b c\nd e f", 4, 0, ["a b c", "d e f"]),
        ("a b\n\nc d", 4, 0, ["a b\n\nc d"]),
        ("一二三四五", 2, 0, ["一二", "三四", "五"]),
        ("", 4, 0, []),
    ],
    ids=["fits", "exact", "overlap", "paragraph", "sentence", "line", "packed", "no spaces", "empty"],
)
def test_windows_end_at_the_best_boundary(text: str, size: int, overlap: int, expected: list[str]) -> None:
    """A window ends at a paragraph, line or sentence near its limit and shares `overlap` tokens with the next."""
    assert [text for _, text in cut(text, size, overlap)] == expected


def test_headings_separate_passages_and_become_their_path() -> None:
    """No passage crosses a heading, and each carries the path of headings above it."""
    text = "Intro.\n\n# A\n\none\n\n## B ##\n\ntwo\n\n### C\n\n## D\n\nthree\n\n# E\nfour"
    assert cut(text, 50, by_headings=True) == [
        ("", "Intro."),
        ("A", "one"),
        ("A > B", "two"),
        ("A > D", "three"),
        ("E", "four"),
    ]


def test_fenced_lines_are_no_headings() -> None:
    """A `#` inside a code fence is code, also in a longer fence and in one that is never closed."""
    text = "# A\n\n````sh\n# comment\n```\n# still\n````\n\n# B\n\n~~~\n# open"
    assert cut(text, 50, by_headings=True) == [
        ("A", "````sh\n# comment\n```\n# still\n````"),
        ("B", "~~~\n# open"),
    ]


def test_a_blank_line_in_a_fence_is_a_weaker_boundary_than_one_outside() -> None:
    """Code stays together where it fits: the cut goes before the fence, not into it."""
    text = "a b c d\n\n```\ne\n\nf g h i j\n```"
    assert cut(text, 8, by_headings=True)[0] == ("", "a b c d")


def test_text_of_headings_only_is_still_found() -> None:
    """A document without a body yields its headings rather than nothing."""
    assert cut("# A\n\n## B", 50, by_headings=True) == [("", "# A\n\n## B")]


def test_embedded_text_starts_with_the_heading_path() -> None:
    """The vector stands for path and text; without a path for the text alone."""
    found = pieces("# A\n\nx", Limits(5, 0), by_headings=True)
    assert [piece.embedded for piece in found] == ["A\n\nx"]
    assert chunking.Piece("", "x").embedded == "x"


@pytest.mark.parametrize(
    ("size", "overlap", "readable", "expected"),
    [(200, 32, 254, (200, 32)), (512, 32, 254, (254, 32)), (100, 99, 254, (100, 75)), (16, 4, 0, (1, 0))],
)
def test_limits_never_exceed_the_embedder(
    size: int, overlap: int, readable: int, expected: tuple[int, int]
) -> None:
    """Size is capped by what the embedder reads, overlap by three quarters of the size."""
    limits = Limits.within(size, overlap, readable)
    assert (limits.size, limits.overlap) == expected


_TEXTS = st.text(st.sampled_from(list("ab. \n#一`")), max_size=300)


@given(text=_TEXTS, size=st.integers(1, 20), overlap=st.integers(0, 20), by_headings=st.booleans())
def test_passages_are_bounded_ordered_and_complete(
    text: str, size: int, overlap: int, by_headings: bool
) -> None:
    """Whatever the text: no passage is longer than `size`, they come in order from where they say, and every word outside headings is in one."""
    limits = Limits.within(size, overlap, 1000)
    found = pieces(text, limits, by_headings=by_headings)
    assert all(1 <= len(words(piece.text)) <= limits.size for piece in found)
    assert all(text[piece.start : piece.end] == piece.text for piece in found)
    assert [piece.start for piece in found] == sorted(piece.start for piece in found)
    if not by_headings:
        assert sum(len(words(piece.text)) for piece in found) >= len(words(text))


@given(text=st.text(max_size=200), longest=st.integers(1, 50))
def test_segments_put_together_are_the_text(text: str, longest: int) -> None:
    """Segments lose nothing, know their offsets and stay within the bound."""
    found = chunking.segments(text, longest)
    assert "".join(part for _, part in found) == text
    assert all(text.startswith(part, start) and len(part) <= longest for start, part in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three four! Five?", ["One two. ", "Three four! ", "Five?"]),
        ("See e.g. this. And J. Smith too.", ["See e.g. this. ", "And J. Smith too."]),
        ('He said "no." Then left.', ['He said "no." ', "Then left."]),
        ("Version 3.5 works. Good", ["Version 3.5 works. ", "Good"]),
        ("\u4eca\u65e5\u3002\u660e\u65e5\u3002", ["\u4eca\u65e5\u3002", "\u660e\u65e5\u3002"]),
        (
            "\u092f\u0939 \u0939\u0948\u0964 \u0935\u0939",
            ["\u092f\u0939 \u0939\u0948\u0964 ", "\u0935\u0939"],
        ),
        ("Head\n\nBody line\nwrapped", ["Head\n\n", "Body line\nwrapped"]),
        ("", [""]),
    ],
    ids=["marks", "abbreviations", "quotes", "numbers", "japanese", "hindi", "blank line", "empty"],
)
def test_sentences_are_found_by_marks_of_many_scripts(text: str, expected: list[str]) -> None:
    """A line's end is none; a blank line is; a dot before a lower-case letter or after an initial is none."""
    cuts = [0, *sentences.starts(text), len(text)]
    assert [text[first:last] for first, last in pairwise(cuts)] == expected


def by_sentences(text: str, size: int, overlap: int) -> list[str]:
    """Passages of whole sentences."""
    spans = words(text)
    firsts = [first for first, _ in spans]
    body = Text(text, spans, (), [bisect_left(firsts, at) for at in sentences.starts(text)])
    return [piece.text for piece in chunking.cut(body, Limits.within(size, overlap, 1000), 1000)]


@pytest.mark.parametrize(
    ("text", "size", "overlap", "expected"),
    [
        ("A b. C d. E f.", 5, 0, ["A b. C d.", "E f."]),
        ("A b. C d. E f.", 5, 2, ["A b. C d.", "C d. E f."]),
        ("A b. C d e f. G h.", 6, 3, ["A b. C d e f.", "G h."]),
        ("A b c d e f g. H.", 3, 0, ["A b c", "d e f", "g. H."]),
    ],
    ids=["packed", "overlap", "overlap too short", "long sentence"],
)
def test_passages_of_whole_sentences(text: str, size: int, overlap: int, expected: list[str]) -> None:
    """Windows end and overlap at sentences; only a sentence longer than a window is cut."""
    assert by_sentences(text, size, overlap) == expected


@given(
    text=st.text(st.sampled_from(list("ab. \n\u4e00\u3002")), max_size=300),
    size=st.integers(1, 20),
    overlap=st.integers(0, 20),
)
def test_sentence_passages_are_bounded_and_complete(text: str, size: int, overlap: int) -> None:
    """Whatever the text: no passage is too long and no word is lost."""
    found = by_sentences(text, size, overlap)
    assert all(len(words(piece)) <= size for piece in found)
    assert sum(len(words(piece)) for piece in found) >= len(words(text))
