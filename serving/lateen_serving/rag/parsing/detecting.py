# SPDX-License-Identifier: Apache-2.0
"""Finds out what a file is: by its content where that tells, else by its name. Pure; called by `reading.py`."""

import re
from pathlib import PurePosixPath

from lateen_serving.rag.parsing import mail, records, tables
from lateen_serving.rag.parsing.parsed import Kind, ParseFailure

_PDF = b"%PDF-"
ZIP = b"PK\x03\x04"
_CONTAINER = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Start of an OLE container: old office documents, Outlook mails, and new office documents with a password."""

_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_MAGIC: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "a PNG picture"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG picture"),
    (re.compile(rb"GIF8[79]a.{0,6}\0", re.DOTALL), "a GIF picture"),
    (re.compile(rb"II\*\0|MM\0\*"), "a TIFF picture"),
    (re.compile(rb"RIFF.{4}(?:WAVE|WEBP|AVI )", re.DOTALL), "a sound, picture or video"),
    (re.compile(rb"OggS\0|ID3[\x02-\x04]"), "a sound or video"),
    (re.compile(rb"\0\0\0.ftyp", re.DOTALL), "a video"),
    (re.compile(rb"\x1f\x8b\x08"), "a gzip archive"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "a bzip2 archive"),
    (re.compile(rb"\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\x28\xb5\x2f\xfd"), "an archive"),
    (re.compile(rb"\x7fELF"), "a program"),
    (re.compile(rb"SQLite format 3\0"), "a SQLite database"),
    (re.compile(rb"PAR1.*PAR1\Z", re.DOTALL), "a Parquet file"),
    (re.compile(rb"\{\\rtf1"), "an RTF document"),
)
"""First bytes of kinds that are not read; none of them can begin a text."""

_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.I | re.S
)
_OFFICE: tuple[tuple[str, Kind], ...] = (
    ("word/document.xml", "DOCX"),
    ("ppt/presentation.xml", "PPTX"),
    ("xl/workbook.xml", "XLSX"),
)
_SUFFIXES: dict[str, Kind] = {
    ".md": "Markdown",
    ".markdown": "Markdown",
    ".txt": "Text",
    ".rst": "Text",
    ".log": "Text",
    ".html": "HTML",
    ".htm": "HTML",
    ".xhtml": "HTML",
    ".pdf": "PDF",
    ".docx": "DOCX",
    ".pptx": "PPTX",
    ".xlsx": "XLSX",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".eml": "EML",
}
_BINARY: frozenset[Kind] = frozenset({"PDF", "DOCX", "PPTX", "XLSX"})
CODE = {
    ".py": "python", ".pyi": "python", ".go": "go", ".rs": "rust", ".js": "javascript", ".jsx": "javascript",
    ".mjs": "javascript", ".ts": "typescript", ".tsx": "typescript", ".java": "java", ".kt": "kotlin", ".scala": "scala",
    ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".cs": "csharp", ".swift": "swift",
    ".php": "php", ".rb": "ruby", ".lua": "lua", ".sh": "shell", ".bash": "shell", ".sql": "sql", ".proto": "protobuf",
    ".tf": "terraform", ".r": "r", ".jl": "julia", ".ex": "elixir", ".pl": "perl",
}  # fmt: skip
"""Programming language by suffix."""

_INTERPRETERS = {
    "python": "python",
    "bash": "shell",
    "sh": "shell",
    "node": "javascript",
    "ruby": "ruby",
    "perl": "perl",
}


def binary_kind(path: str, data: bytes) -> Kind | None:
    """What the first bytes say; None for text and for archives, whose members tell. ParseFailure for what is not read."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(_PDF) or (_PDF in head and kind_by_name(path) == "PDF"):
        return "PDF"
    if data.startswith(_CONTAINER):
        if _ENCRYPTED_PACKAGE in data:
            raise ParseFailure("Encrypted", "the document asks for a password; store it without one")
        raise ParseFailure(
            "Unsupported", "an office file of before 2007; store it as DOCX, XLSX, PPTX, PDF or EML"
        )
    for magic, name in _MAGIC:
        if magic.match(data):
            raise ParseFailure("Unsupported", f"it is {name}; take it out with spec.sources exclude")
    if mail.is_mail(data):
        return "EML"
    return None


def office_kind(members: frozenset[str]) -> Kind:
    """What an archive's members say; ParseFailure(Unsupported) if it is no office document."""
    for member, kind in _OFFICE:
        if member in members:
            return kind
    raise ParseFailure("Unsupported", "it is an archive; store the files in it one by one")


def text_kind(path: str, text: str) -> Kind:
    """What kind of text it is; ParseFailure(Malformed) if its name promises something that is no text."""
    if _PAGE.match(text, 0, 4096):
        return "HTML"
    named = kind_by_name(path)
    if named in _BINARY:
        raise ParseFailure("Malformed", f"its name says {named} but its content does not")
    if named is not None:
        return named
    return _sniffed(text)


def kind_by_name(path: str) -> Kind | None:
    """What the suffix says."""
    suffix = PurePosixPath(path).suffix.lower()
    return "Code" if suffix in CODE else _SUFFIXES.get(suffix)


def code_language(path: str, text: str) -> str:
    """The programming language by suffix or first line; empty if neither tells."""
    found = CODE.get(PurePosixPath(path).suffix.lower())
    if found is None and text.startswith("#!"):
        words = text.split("\n", 1)[0].replace("/", " ").split()
        names = [word.rstrip("0123456789.") for word in words]
        found = next((_INTERPRETERS[name] for name in names if name in _INTERPRETERS), None)
    return found or ""


def _sniffed(text: str) -> Kind:
    """What text under a name that tells nothing is."""
    if text.startswith("#!") and code_language("", text):
        return "Code"
    if records.is_lines(text) or records.is_json(text):
        return "JSON"
    if text.count("\n", 0, 1 << 16) >= 3 and tables.delimiter_of(text, least_columns=3):
        return "CSV"
    return "Text"
