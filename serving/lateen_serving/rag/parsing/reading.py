# SPDX-License-Identifier: Apache-2.0
"""Turns the bytes of a file into a document. Pure; called by `guarded.py`, in a process that it may ruin.

The libraries for PDF and HTML take a second to load, so that they are loaded for files that need them.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from lateen_serving.rag.parsing import (
    detecting,
    language,
    mail,
    metadata,
    plain,
    records,
    sheets,
    slides,
    tables,
    word,
)
from lateen_serving.rag.parsing.archives import Archive
from lateen_serving.rag.parsing.parsed import MAX_TITLE, Kind, Parsed, ParseFailure, Raw
from lateen_serving.rag.parsing.text import Decoded, decode

_OFFICE: dict[Kind, Callable[[Archive], Parsed]] = {
    "DOCX": word.parse,
    "PPTX": slides.parse,
    "XLSX": sheets.parse,
}


def parse(raw: Raw) -> Parsed:
    """The document in `raw`; raises ParseFailure, and MemoryError or RecursionError over what is made to."""
    added = metadata.sidecar(raw.sidecar) if raw.sidecar is not None else {}
    parsed = _parsed(raw.path, raw.data)
    title = added.get("title") or parsed.title or PurePosixPath(raw.path).name
    rest = {key: value for key, value in added.items() if key != "title"}
    return replace(
        parsed,
        title=str(title)[:MAX_TITLE],
        language="" if parsed.kind == "Code" else language.of(parsed.text),
        metadata={**parsed.metadata, **rest},
    )


def _parsed(path: str, data: bytes) -> Parsed:
    if not data.strip():
        raise ParseFailure("Empty", "the file is empty")
    if data.startswith(detecting.ZIP):
        archive = Archive(data)
        return _OFFICE[detecting.office_kind(archive.names)](archive)
    kind = detecting.binary_kind(path, data)
    if kind == "PDF":
        from lateen_serving.rag.parsing import pdf

        return pdf.parse(data)
    return mail.parse(data) if kind == "EML" else _text(path, data)


def _text(path: str, data: bytes) -> Parsed:
    decoded = decode(data)
    kind = detecting.text_kind(path, decoded.text)
    if kind == "HTML":
        from lateen_serving.rag.parsing import web

        return web.parse(data)
    if kind == "EML":
        return mail.parse(data)
    if kind == "CSV":
        return tables.parse(
            decoded, tables.delimiter_of(decoded.text) or ("\t" if path.endswith(".tsv") else ",")
        )
    if kind == "JSON":
        return _records(path, decoded)
    if kind == "Code":
        return plain.parse_code(decoded, detecting.code_language(path, decoded.text))
    return plain.parse_markdown(decoded) if kind == "Markdown" else plain.parse_text(decoded)


def _records(path: str, decoded: Decoded) -> Parsed:
    named_lines = path.lower().endswith((".jsonl", ".ndjson"))
    if named_lines or (records.is_lines(decoded.text) and not records.is_json(decoded.text)):
        return records.parse_lines(decoded)
    return records.parse(decoded)
