# SPDX-License-Identifier: Apache-2.0
"""Parses DOCX: paragraphs, headings by their style, tables. Pure.

Deleted and hidden text is left out, and so are comments, headers and footers.
"""

import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from lateen_serving.rag.parsing import office
from lateen_serving.rag.parsing.archives import Archive
from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.writing import Writer

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
_LEVEL = re.compile(r"heading ([1-9])")
_SKIPPED = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback"})
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def parse(archive: Archive) -> Parsed:
    """A Word document."""
    root = archive.tree("word/document.xml")
    body = None if root is None else next((part for part in root if office.local(part) == "body"), None)
    if body is None:
        raise ParseFailure("Malformed", "word/document.xml has no body")
    levels = _levels(archive.tree("word/styles.xml"))
    writer = Writer()
    for block in _blocks(body):
        if office.local(block) == "tbl":
            _table(block, writer)
        else:
            _paragraph(block, levels, writer)
    properties = office.properties(archive)
    return writer.parsed("DOCX", properties.title, updated_at=properties.modified)


def _blocks(body: Element) -> Iterator[Element]:
    """The paragraphs and outer tables, also those inside content controls and accepted insertions."""
    for part in body:
        name = office.local(part)
        if name in {"p", "tbl"}:
            yield part
        elif name in {"sdt", "sdtContent", "ins", "customXml"}:
            yield from _blocks(part)


def _paragraph(paragraph: Element, levels: Mapping[str, int], writer: Writer) -> None:
    text = _text(paragraph)
    properties = office.child(paragraph, "pPr")
    style = None if properties is None else office.child(properties, "pStyle")
    level = levels.get(_value(style), 0)
    if level:
        writer.heading(level, text)
    else:
        listed = properties is not None and office.child(properties, "numPr") is not None
        writer.block(f"- {text}" if listed and text.strip() else text, "\n" if listed else "\n\n")


def _table(table: Element, writer: Writer) -> None:
    """One line per row."""
    joint = "\n\n"
    for row in (part for part in table.iter() if office.local(part) == "tr"):
        cells = [" ".join(_text(cell).split()) for cell in row if office.local(cell) == "tc"]
        if any(cells):
            writer.block(" | ".join(cells), joint)
            joint = "\n"


def _text(part: Element) -> str:
    return "".join(_texts(part))


def _texts(part: Element) -> Iterator[str]:
    for inner in part:
        name = office.local(inner)
        if name in _SKIPPED or (name == "r" and _hidden(inner)):
            continue
        if name == "t":
            yield inner.text or ""
        elif name in _BREAKS:
            yield _BREAKS[name]
        elif name not in {"pPr", "rPr", "tbl"}:
            yield from _texts(inner)
            if name == "p":
                yield "\n"


def _hidden(run: Element) -> bool:
    properties = office.child(run, "rPr")
    mark = None if properties is None else office.child(properties, "vanish")
    return mark is not None and _value(mark) not in {"0", "false", "off"}


def _levels(styles: Element | None) -> dict[str, int]:
    """Heading level by style id; ids are translated, names are not."""
    found = {f"Heading{level}": level for level in range(1, 10)} | {"Title": 1}
    for style in () if styles is None else styles:
        name = _value(office.child(style, "name")).lower()
        match = _LEVEL.fullmatch(name)
        identity = _attribute(style, "styleId")
        if match:
            found[identity] = int(match[1])
        elif name == "title":
            found[identity] = 1
    return found


def _value(element: Element | None) -> str:
    return "" if element is None else _attribute(element, "val")


def _attribute(element: Element, name: str) -> str:
    return element.get(f"{_W}{name}") or element.get(f"{_STRICT}{name}") or ""
