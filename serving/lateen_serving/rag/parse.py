# SPDX-License-Identifier: Apache-2.0
"""Turns the bytes of a file into clean text. Pure; called by `sync.py`.

Cleaning removes what a reader can't see (zero-width and control characters, byte order marks, invisible tags),
because it would be embedded, retrieved and put into prompts all the same.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from lateen_serving.rag.markdown import first_heading

MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})
MAX_TITLE = 200
"""Characters of a title."""

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_NEWLINE = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # controls but tab and newline
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, marks, fillers
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"  # zero width, directions
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"  # annotations, tags
)
_JOINER = re.compile("[\u200c\u200d]+")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANKS = re.compile(r"\n{3,}")


class ParseFailure(Exception):
    """The file can't become text.

    Attributes:
        reason: A reason of `DocumentFailure`.

    """

    def __init__(self, reason: Literal["TooLarge", "NotText", "Empty"], message: str) -> None:
        super().__init__(message)
        self.reason: Literal["TooLarge", "NotText", "Empty"] = reason


@dataclass(frozen=True)
class Parsed:
    """A file as text."""

    title: str
    """Its first heading, else the file's name."""

    text: str
    markdown: bool


def parse(path: str, data: bytes) -> Parsed:
    """The text of a Markdown or plain-text file; raises ParseFailure."""
    text = clean(_decode(data))
    name = PurePosixPath(path)
    markdown = name.suffix.lower() in MARKDOWN_SUFFIXES
    if markdown:
        text = _FRONT_MATTER.sub("", text, count=1).strip()
    if not text:
        raise ParseFailure("Empty", "the file has no text")
    title = (first_heading(text) if markdown else "") or name.name
    return Parsed(title[:MAX_TITLE], text, markdown)


def clean(text: str) -> str:
    """`text` in NFC, with Unix line ends, without invisible characters, trailing blanks and runs of blank lines."""
    text = _INVISIBLE.sub("", _NEWLINE.sub("\n", text))
    text = unicodedata.normalize("NFC", _JOINER.sub(_keep_joiner, text))
    return _BLANKS.sub("\n\n", _TRAILING.sub("", text)).strip()


def _keep_joiner(match: re.Match[str]) -> str:
    """One joiner between letters that are not ASCII shapes them (Persian, Hindi, emoji); others only hide text."""
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    shapes = bool(before) and bool(after) and not before.isascii() and not after.isascii()
    return match.group()[0] if shapes else ""


def _decode(data: bytes) -> str:
    if b"\0" in data:
        raise ParseFailure("NotText", "the file is binary")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParseFailure("NotText", f"the file is not UTF-8: byte {error.start} can't be read") from error
