# SPDX-License-Identifier: Apache-2.0
"""Post-processing: every step by itself, their order, and personal data with what only looks like it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen_api.prompts import post_processing
from lateen_api.prompts.personal_data import redact

quick = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ([], "  a  ", "  a  "),
        (["Strip"], " \n a b \n", "a b"),
        (["Dedent"], "    a\n      b\n", "a\n  b\n"),
        (["CollapseWhitespace"], " a \t b\n\n\n\nc\n\n", "a b\n\nc"),
        (["NormalizeUnicode"], "e\u0301 x\u00b2", "\u00e9 x\u00b2"),
        (["NormalizeUnicode"], "a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        (["NormalizeUnicode"], "pay\u200b \u202ereversed\u202c\ufeff\U000e0041", "pay reversed"),
        (["NormalizeUnicode"], "\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),
        (["MaxLines(2)"], "a\nb\nc\nd", "a\nb"),
        (["MaxLines(9)"], "a\n\n", "a\n\n"),
        (["MaxLines(1)"], "", ""),
        (["RedactPII"], "to jo@example.org", "to [EMAIL]"),
        (["MaxLines(2)", "Strip"], "\n\na\nb", ""),
        (["Strip", "MaxLines(2)"], "\n\na\nb", "a\nb"),
    ],
)
def test_steps_are_applied_in_their_order(steps: list[str], text: str, expected: str) -> None:
    """Each step does what it says, to what the step before it has left."""
    assert post_processing.apply([text], steps) == [expected]


def test_empty_messages_are_removed_where_the_step_stands() -> None:
    """A message that is blank when RemoveEmptyMessages is reached is gone; one that becomes so later stays."""
    texts = ["", "a", " \n "]
    assert post_processing.apply(texts, ["RemoveEmptyMessages", "Strip"]) == [None, "a", None]
    assert post_processing.apply(texts, ["Strip"]) == ["", "a", ""]


@quick
@given(
    st.text(), st.sampled_from(["Dedent", "Strip", "CollapseWhitespace", "NormalizeUnicode", "MaxLines(2)"])
)
def test_a_step_settles(text: str, step: str) -> None:
    """Doing it twice changes nothing more."""
    once = post_processing.apply([text], [step])
    assert post_processing.apply([text], [step, step]) == once


FOUND = {
    "[EMAIL]": (
        "jo@example.org", "jo.doe+spam@mail.example.co.uk", "müller@bücher.example", "x_1%y@a-b.io", "git@github.com",
    ),
    "[IBAN]": ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "NO9386011117947"),
    "[CREDIT_CARD]": (
        "4111111111111111", "4111 1111 1111 1111", "5500-0055-5555-5559", "3782 822463 10005", "30569309025904",
        "6011000990139424",
    ),
    "[IP_ADDRESS]": (
        "192.168.0.1", "::1", "2001:db8:85a3::8a2e:370:7334", "fe80::1%eth0", "::ffff:10.0.0.1",
    ),
    "[PHONE]": (
        "+49 30 1234567", "+1 (555) 223-4567", "+49 (0)30 12345678", "0049 30 123456", "(555) 223-4567", "555.223.4567",
        "1-555-223-4567", "0171 1234567", "030/12345678", "0800 123 456",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("placeholder", "value"), [(kind, value) for kind, values in FOUND.items() for value in values]
)
def test_personal_data_is_replaced_by_its_kind(placeholder: str, value: str) -> None:
    """In a sentence, at its end, in brackets and alone, all of it goes and nothing else does."""
    for frame in ("{}", "see {} today", "It is {}.", "({}), and", '"{}"', "a\n{}\nb", "x: {}, y"):
        assert redact(frame.format(value)) == frame.format(placeholder)


@pytest.mark.parametrize(
    "text",
    [
        "user@localhost", "5@10.00 each", "@decorator", "a@b",
        "DE88370400440532013000", "XX89370400440532013000", "CODE12 ABCD EFGH IJKL",
        "4111111111111112", "order 12345678901234", "1732442400000", "4111 11111 111 1111",
        "ISBN 978-3-16-148410-0", "550e8400-e29b-41d4-a716-446655440000", "1,234,567.89", "3.14159265358979",
        "256.1.1.1", "1.2.3.4.5", "v2.10.3", "12:30:45", "std::vector", "a::b", "00:11:22:33:44:55",
        "2024-01-02 10:00", "01/02/2024", "from 2024 to 2026", "+5 points", "room 030 123", "call 112",
        "0.5 1234567", "10-20-30", "rows 100 200 300 400",
    ],
)  # fmt: skip
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    """Wrong checksums, dates, prices, versions, ids and scopes are left alone."""
    assert redact(f"Note: {text}.") == f"Note: {text}."


def test_several_in_one_text_are_all_replaced() -> None:
    """Neighbours don't hide each other, nor do digits before a card number."""
    text = "jo@a.org,al@b.org 10.0.0.1/24; order 12 4111 1111 1111 1111 5500 0055 5555 5559 end"
    assert redact(text) == ("[EMAIL],[EMAIL] [IP_ADDRESS]/24; order 12 [CREDIT_CARD] [CREDIT_CARD] end")


@pytest.mark.parametrize(
    "seed",
    [
        "a", "a@", "a.", "a-", "1", "1 ", "1-", "4111 ", ":", "f:", "1.1.", "+1", "(0", "01 ", "+1(", "0123 123 ",
        "DE89", "DE89 ", "4111111111111111 ", "x@a.",
    ],
)  # fmt: skip
def test_no_text_takes_more_than_linear_time(seed: str) -> None:
    """Sixteen times the text takes at most about sixteen times as long: what a backtracking expression would not."""

    def seconds(characters: int) -> float:
        text = seed * (characters // len(seed))
        best = 9.0
        for _ in range(3):
            started = time.process_time()
            redact(text)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(80_000) < 64 * max(seconds(5_000), 1e-4)
