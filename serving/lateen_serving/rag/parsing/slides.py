# SPDX-License-Identifier: Apache-2.0
"""Parses PPTX: the text of each slide, with its title as a heading and its number as the page. Pure.

Hidden slides and the speaker's notes are left out.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from lateen_serving.rag.parsing import office
from lateen_serving.rag.parsing.archives import Archive
from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.writing import Writer

_MEMBER = "ppt/presentation.xml"
_TITLES = frozenset({"title", "ctrTitle"})
_FURNITURE = frozenset({"dt", "ftr", "sldNum"})


def parse(archive: Archive) -> Parsed:
    """A presentation."""
    root = archive.tree(_MEMBER)
    if root is None:
        raise ParseFailure("Malformed", f"{_MEMBER} is missing")
    targets = office.targets(archive, _MEMBER)
    order = office.child(root, "sldIdLst")
    writer = Writer()
    for number, slide in enumerate(() if order is None else order, start=1):
        tree = archive.tree(targets.get(office.relation(slide), ""))
        if tree is not None and tree.get("show") not in {"0", "false"}:
            writer.page(number)
            _slide(tree, writer)
    about = office.properties(archive)
    return writer.parsed("PPTX", about.title, updated_at=about.modified)


def _slide(tree: Element, writer: Writer) -> None:
    """Its title first, wherever it stands."""
    shapes = [part for part in tree.iter() if office.local(part) in {"sp", "tbl"}]
    for shape in shapes:
        if _role(shape) in _TITLES:
            writer.heading(1, " ".join(_paragraphs(shape)))
    for shape in shapes:
        if office.local(shape) == "tbl":
            rows = [part for part in shape.iter() if office.local(part) == "tr"]
            writer.block("\n".join(" | ".join(_cells(row)) for row in rows))
        elif _role(shape) not in _TITLES | _FURNITURE:
            writer.block("\n".join(_paragraphs(shape)))


def _role(shape: Element) -> str:
    place = next((part for part in shape.iter() if office.local(part) == "ph"), None)
    return "" if place is None else place.get("type", "body")


def _cells(row: Element) -> Iterator[str]:
    for cell in row:
        if office.local(cell) == "tc":
            yield " ".join(_paragraphs(cell))


def _paragraphs(part: Element) -> Iterator[str]:
    for paragraph in (inner for inner in part.iter() if office.local(inner) == "p"):
        texts = [_run(inner) for inner in paragraph.iter()]
        yield "".join(texts)


def _run(part: Element) -> str:
    name = office.local(part)
    if name == "br":
        return "\n"
    return (part.text or "") if name == "t" else ""
