# SPDX-License-Identifier: Apache-2.0
"""Tokens to text: whole characters, and nothing from a stop text on."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_serving.engine.text import AnswerText, Detokenizer, StopFilter


def decode(tokens: Sequence[int]) -> str:
    """Bytes as tokens, as byte-level tokenizers do at worst."""
    return bytes(tokens).decode(errors="replace")


@given(st.text(max_size=40).filter(lambda text: "\ufffd" not in text))
def test_pieces_join_to_the_whole(text: str) -> None:
    """Whatever the characters, pieces are whole characters and join to the text."""
    detokenizer = Detokenizer(decode)
    pieces = [detokenizer.push(token) for token in text.encode()]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


def test_a_space_that_decoding_strips_is_kept_between_words() -> None:
    """Tokenizers that drop the first token's space lose no space inside an answer."""
    words = {1: " the", 2: " sea", 3: "s"}
    detokenizer = Detokenizer(lambda tokens: "".join(words[token] for token in tokens).removeprefix(" "))
    assert [detokenizer.push(token) for token in (1, 2, 3)] == ["the", " sea", "s"]


def test_bytes_that_never_become_text_are_let_go() -> None:
    """Invalid bytes go out as replacement characters after a few tokens instead of growing for ever."""
    detokenizer = Detokenizer(decode)
    assert "".join(detokenizer.push(0xFF) for _ in range(20)).startswith("\ufffd" * 8)


@pytest.mark.parametrize(
    ("stops", "pieces", "sent", "stopped"),
    [
        ([], ["a", "b"], "ab", False),
        (["END"], ["xE", "N", "Dy"], "x", True),
        (["END"], ["xEN", "x"], "xENx", False),
        (["END"], ["EEND"], "E", True),
        (["aab"], ["a", "a", "a", "b", "c"], "a", True),
        (["b", "ab"], ["a", "b"], "", True),
        (["long stop", "s"], ["a long", " stop"], "a ", True),
        (["\n\n"], ["one\n", "two\n", "\n"], "one\ntwo", True),
    ],
)
def test_stop_texts_across_pieces(stops: list[str], pieces: list[str], sent: str, stopped: bool) -> None:
    """The text before the earliest stop text is sent, however it was cut into pieces."""
    stop_filter, text, met = StopFilter(stops), "", False
    for piece in pieces:
        new, met = stop_filter.push(piece)
        text += new
        if met:
            break
    assert (text + stop_filter.flush(), met) == (sent, stopped)


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=2))
def test_nothing_that_belongs_to_a_stop_text_is_ever_sent(text: str, stops: list[str]) -> None:
    """Letter by letter, what is sent equals the text cut at the first stop text that completes."""
    stop_filter, sent = StopFilter(stops), ""
    for end in range(1, len(text) + 1):
        new, met = stop_filter.push(text[end - 1])
        sent += new
        if met:
            starts = [text[:end].find(stop) for stop in stops if stop in text[:end]]
            assert sent == text[: min(starts)]
            return
        assert not any(stop in text[:end] for stop in stops)
    assert sent + stop_filter.flush() == text


def test_an_unfinished_character_is_dropped_at_the_end() -> None:
    """Half a character at the end of an answer is not sent; held back text is."""
    answer = AnswerText(decode, ["xyz"])
    assert [answer.push(byte) for byte in b"ax\xc3"] == [("a", False), ("", False), ("", False)]
    assert answer.flush() == "x"
