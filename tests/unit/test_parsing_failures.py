# SPDX-License-Identifier: Apache-2.0
"""Files that can't or must not become text: each a typed reason, soon, in little memory."""

import bz2
import gzip
import time
import tracemalloc
from collections.abc import Callable

import pytest

from lateen_serving.rag.parsing import reading
from lateen_serving.rag.parsing.parsed import ParseFailure, Raw
from unit import parsing_samples as samples

FILES: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty.md", lambda: b"", "Empty"),
    ("blank.txt", lambda: b" \n\t\n", "Empty"),
    ("only-matter.md", lambda: b"---\na: 1\n---\n", "Empty"),
    ("invisible.txt", "\u200b\ufeff\u00ad".encode, "Empty"),
    ("scan.pdf", lambda: samples.pdf(""), "Empty"),
    ("data.bin", lambda: b"\x01\x02\0\x03", "NotText"),
    ("false-mark.md", lambda: b"\xff\xfe\x00\x00 not text \x00\xff", "NotText"),
    ("picture.md", lambda: b"\x89PNG\r\n\x1a\n\0\0", "Unsupported"),
    ("moving.gif", lambda: b"GIF89a\x01\0\x01\0\x80\0\0" + b"\xff" * 20, "Unsupported"),
    ("packed.txt", lambda: gzip.compress(b"text"), "Unsupported"),
    ("packed.bz2", lambda: bz2.compress(b"text"), "Unsupported"),
    ("old.doc", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "Unsupported"),
    ("some.zip", lambda: samples.archive({"a.txt": b"x"}), "Unsupported"),
    ("locked.pdf", lambda: samples.pdf("secret", password="p"), "Encrypted"),
    ("locked.docx", lambda: samples.locked(samples.word()), "Encrypted"),
    (
        "locked.xlsx",
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
        "Encrypted",
    ),
    ("cut.pdf", lambda: samples.pdf("x")[:200], "Malformed"),
    ("cut.docx", lambda: samples.word()[:5000], "Malformed"),
    ("no-body.docx", lambda: samples.archive({"word/document.xml": b"<a/>"}), "Malformed"),
    ("no-xml.docx", lambda: samples.archive({"word/document.xml": b"<a><b></a>"}), "Malformed"),
    ("not-a.pdf", lambda: b"only text", "Malformed"),
    ("cut.json", lambda: b'{"a": 1', "Malformed"),
    ("cut.jsonl", lambda: b'{"a": 1}\n{"a": ', "Malformed"),
    ("bomb.docx", samples.zip_bomb, "Bomb"),
    ("entities.docx", samples.entity_bomb, "Bomb"),
    (
        "members.docx",
        lambda: samples.archive({"word/document.xml": b"<a/>"} | {str(at): b"" for at in range(10_001)}),
        "Bomb",
    ),
    (
        "levels.docx",
        lambda: samples.archive({"word/document.xml": b"<a>" * 5000 + b"</a>" * 5000}),
        "Bomb",
    ),
    ("bomb.pdf", samples.pdf_bomb, "Bomb"),
    ("deep.json", lambda: b"[" * 1_000_000 + b"]" * 1_000_000, "Bomb"),
    ("unclosed", lambda: b"[" * 1_000_000, "Bomb"),
    ("long.txt", lambda: b"word " * 3_300_000, "TooLarge"),
]


@pytest.mark.parametrize(("path", "made", "reason"), FILES, ids=[path for path, _, _ in FILES])
def test_a_bad_file_has_a_typed_reason(path: str, made: Callable[[], bytes], reason: str) -> None:
    """Whatever the file is, its reason says what is wrong, and the message is for people."""
    data = made()
    with pytest.raises(ParseFailure) as failure:
        reading.parse(Raw(path, data))
    assert failure.value.reason == reason
    assert 5 < len(str(failure.value)) < 200


@pytest.mark.parametrize("made", [samples.zip_bomb, samples.entity_bomb, samples.pdf_bomb])
def test_a_bomb_goes_off_in_little_memory_and_time(made: Callable[[], bytes]) -> None:
    """A file of some hundred kilobytes takes no more than an ordinary large document would."""
    data = made()
    assert len(data) < 1 << 20
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(ParseFailure):
        reading.parse(Raw("x", data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 << 20
    assert time.monotonic() - began < 20


def test_a_deep_page_is_cut() -> None:
    """Elements in elements without end are not followed: there is no text that a reader could find."""
    page = b"<html><body>" + b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000
    with pytest.raises(ParseFailure) as failure:
        reading.parse(Raw("x.html", page))
    assert failure.value.reason == "Empty"
