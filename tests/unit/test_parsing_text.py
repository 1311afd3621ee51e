# SPDX-License-Identifier: Apache-2.0
"""Turning bytes into clean text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_serving.rag.parsing.parsed import ParseFailure
from lateen_serving.rag.parsing.text import Decoded, clean, decode

GERMAN = "Der K\u00e4ufer zahlt f\u00fcr die M\u00f6bel \u00fcber f\u00fcnf Euro."
RUSSIAN = "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430? \u042d\u0442\u043e \u0442\u0435\u043a\u0441\u0442."
JAPANESE = "\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044\u3067\u3059\u3002"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain", Decoded("plain")),
        (GERMAN.encode(), Decoded(GERMAN)),
        (b"\xef\xbb\xbfmark", Decoded("mark")),
        ("wide".encode("utf-16"), Decoded("wide")),
        ("wider".encode("utf-32"), Decoded("wider")),
        (GERMAN.encode("cp1252"), Decoded(GERMAN)),
        (RUSSIAN.encode("cp1251"), Decoded(RUSSIAN)),
        (JAPANESE.encode("shift_jis"), Decoded(JAPANESE)),
        (GERMAN.encode() + b"\xff", Decoded(GERMAN + "\ufffd", repaired=True)),
        ("odd length".encode("utf-16") + b"x", Decoded("odd length\ufffd", repaired=True)),
    ],
    ids=[
        "ascii",
        "utf-8",
        "mark",
        "utf-16",
        "utf-32",
        "cp1252",
        "cp1251",
        "shift_jis",
        "damaged",
        "damaged wide",
    ],
)
def test_encodings(data: bytes, expected: Decoded) -> None:
    """UTF-8 first, then a byte order mark, then the likeliest encoding; what can't be read is replaced and told."""
    assert decode(data) == expected


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe\x00\x00 not text \x00\xff"], ids=["nul", "false mark"])
def test_binary_data_is_no_text(data: bytes) -> None:
    """Data that no encoding explains is NotText."""
    with pytest.raises(ParseFailure) as failure:
        decode(data)
    assert failure.value.reason == "NotText"


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
        ("\u2764\ufe0f ok", "\u2764\ufe0f ok"),
        ("a\ufe01\ufe02\ufe03b", "a\ufe01b"),
    ],
)
def test_invisible_characters_go(text: str, expected: str) -> None:
    """What a reader can't see is removed; joiners that shape letters stay, one at a time."""
    assert clean(text) == expected


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """Clean text stays as it is."""
    assert clean(clean(text)) == clean(text)
