# SPDX-License-Identifier: Apache-2.0
"""What goes into a parser and what comes out. Used by every module beside it, by `cutting.py` and `sync.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lateen_api.index_build import ParseFailureReason
from lateen_serving.rag.outline import Heading

Kind = Literal["Markdown", "Text", "Code", "HTML", "PDF", "DOCX", "PPTX", "XLSX", "CSV", "JSON", "EML"]
"""What a file was taken for."""

MetadataValue = str | int | float | bool
"""A value of a document's metadata."""

MAX_TITLE = 200
"""Characters of a title."""

MAX_CHARACTERS = 16_000_000
"""Characters of a document's text."""


class ParseFailure(Exception):
    """The file can't become text.

    Attributes:
        reason: A reason of `DocumentFailure`.

    """

    def __init__(self, reason: ParseFailureReason, message: str) -> None:
        super().__init__(message)
        self.reason: ParseFailureReason = reason


@dataclass(frozen=True)
class Raw:
    """A file as its source gave it."""

    path: str
    """Path within the source, with `/`."""

    data: bytes
    sidecar: bytes | None = None
    """Content of the file `PATH.metadata.json`, if there is one."""


@dataclass(frozen=True)
class Parsed:
    """A file as clean text. Offsets count characters of `text`."""

    title: str
    """The title it gives itself, else its first heading, else the file's name."""

    text: str
    kind: Kind = "Text"
    headings: tuple[Heading, ...] = ()
    """In order of their offsets."""

    fences: tuple[tuple[int, int], ...] = ()
    """Ranges of preformatted text: a blank line inside ends no paragraph."""

    pages: tuple[tuple[int, int], ...] = ()
    """Offset and number of each page, slide or sheet, ascending; empty for kinds without pages."""

    code: str = ""
    """Programming language of source code, such as `python`."""

    updated_at: str = ""
    """RFC 3339, as the file itself tells; empty if it does not."""

    language: str = ""
    """ISO 639-1 code of the language it is written in; empty if that is not clear."""

    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    """What the author said about it in front matter or a sidecar file."""

    repaired: bool = False
    """Whether bytes could not be read and were replaced by U+FFFD."""

    redactions: int = 0
    """Personal data replaced in the text."""

    digest: str = ""
    """Hash of the text, by which exact duplicates are known."""

    signature: bytes = b""
    """What near duplicates are known by; empty where they are not looked for."""


@dataclass(frozen=True)
class Refused:
    """Why a file has no text."""

    reason: ParseFailureReason
    message: str


Outcome = Parsed | Refused
"""What became of one file."""
