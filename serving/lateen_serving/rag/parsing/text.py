# SPDX-License-Identifier: Apache-2.0
"""Turns bytes into text and cleans it. Pure; used by the parsers beside it.

Cleaning removes what a reader can't see (zero-width and control characters, direction overrides, byte order marks,
invisible tags), because it would be embedded, retrieved and put into prompts all the same.
"""

import codecs
import re
import unicodedata
from dataclasses import dataclass

import charset_normalizer

from lateen_serving.rag.parsing.parsed import ParseFailure

_SAMPLE = 1 << 16
"""Bytes an unknown encoding is guessed from."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
"""Encodings that files are still met in; of more, a guess from little text goes astray."""

_WESTERN = "cp1252"
_NEWLINE = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # controls but tab and newline
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, marks, fillers
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"  # zero width, directions
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"  # annotations, tags
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SELECTORS = re.compile("([\ufe00-\ufe0f])[\ufe00-\ufe0f]+")
"""One variation selector shapes a character; a run of them carries a hidden message."""

_JOINER = re.compile("[\u200c\u200d]+")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANKS = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Decoded:
    """Bytes as text."""

    text: str
    repaired: bool = False
    """Whether some bytes could not be read and were replaced by U+FFFD."""


def decode(data: bytes) -> Decoded:
    """The text in `data`: UTF-8, what a byte order mark says, or the likeliest encoding; ParseFailure(NotText)."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _marked(data, encoding)
    if b"\0" in data:
        raise ParseFailure("NotText", "the file is binary")
    try:
        return Decoded(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _foreign(data)


def _marked(data: bytes, encoding: str) -> Decoded:
    """Text after a byte order mark. Where most of it can't be read, the mark was none."""
    try:
        return Decoded(data.decode(encoding))
    except UnicodeDecodeError as error:
        text = data.decode(encoding, "replace")
        if text.count("\ufffd") > 1 + len(text) // 20:
            raise ParseFailure("NotText", f"the file starts like {encoding} but is not") from error
        return Decoded(text, repaired=True)


def _foreign(data: bytes) -> Decoded:
    text = data.decode("utf-8", "replace")
    lost = text.count("\ufffd")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    if lost <= beyond_ascii - lost:
        return Decoded(text, repaired=True)
    found = charset_normalizer.from_bytes(data[:_SAMPLE], cp_isolation=_ENCODINGS).best()
    if found is None:
        raise ParseFailure("NotText", "the file is neither UTF-8 nor text in another known encoding")
    encoding = _WESTERN if _WESTERN in found.could_be_from_charset else found.encoding
    text = data.decode(encoding, "replace")
    return Decoded(text, repaired="\ufffd" in text)


def clean(text: str) -> str:
    """`text` in NFC, with Unix line ends, without invisible characters, trailing blanks and runs of blank lines."""
    text = _INVISIBLE.sub("", _NEWLINE.sub("\n", text))
    text = _SELECTORS.sub(r"\1", _SURROGATE.sub("\ufffd", text))
    text = unicodedata.normalize("NFC", _JOINER.sub(_keep_joiner, text))
    return _BLANKS.sub("\n\n", _TRAILING.sub("", text)).strip()


def _keep_joiner(match: re.Match[str]) -> str:
    """One joiner between letters that are not ASCII shapes them (Persian, Hindi, emoji); others only hide text."""
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    shapes = bool(before) and bool(after) and not before.isascii() and not after.isascii()
    return match.group()[0] if shapes else ""
