# SPDX-License-Identifier: Apache-2.0
"""Parses HTML: the main text without menus and footers, headings and tables kept. Pure: nothing is ever fetched.

Elements that a browser would not show are removed first, so that their text reaches nobody.
"""

import re
from collections.abc import Iterator
from configparser import ConfigParser
from typing import Any

import lxml.etree
import lxml.html
import trafilatura
from trafilatura.settings import use_config

from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.text import Decoded, decode
from lateen_serving.rag.parsing.writing import Writer

_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
_HEAD = 4096
"""Bytes in which the encoding is declared."""

_UNSEEN = "//script | //style | //template | //noscript | //*[@hidden]"
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?:font-size|opacity)\s*:\s*0(?:\.0*)?(?:\D|$)",
    re.IGNORECASE,
)
_LEVEL = re.compile(r"h([1-6])")
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "cite",
        "code",
        "em",
        "font",
        "i",
        "kbd",
        "label",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "time",
        "u",
        "var",
    ]
)


def parse(data: bytes) -> Parsed:
    """A web page."""
    decoded = _decoded(data)
    writer = Writer()
    title = write(decoded.text, writer)
    return writer.parsed("HTML", title, repaired=decoded.repaired)


def write(text: str, writer: Writer) -> str:
    """Add what a reader of the page would see; its title."""
    page = _page(text)
    title = next((" ".join(found.itertext()) for found in page.iter("title")), "")
    _mark_paragraphs(page)
    _frame(page)
    found = trafilatura.bare_extraction(
        page, fast=True, favor_recall=True, include_comments=False, config=_config()
    )
    body = None if found is None else getattr(found, "body", None)
    if body is None or not "".join(body.itertext()).strip():
        for part in _page(text).iter("body"):
            _plain(part, writer, [])
    else:
        _write(body, writer)
    return title


def _decoded(data: bytes) -> Decoded:
    match = _CHARSET.search(data[:_HEAD])
    try:
        return Decoded(data.decode(match[1].decode())) if match else decode(data)
    except (LookupError, UnicodeDecodeError):
        return decode(data)


def _page(text: str) -> Any:
    """The page as a tree, without what a browser would not show."""
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        page = lxml.html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.ParserError, lxml.etree.XMLSyntaxError) as error:
        raise ParseFailure("Empty", "the page has no content") from error
    unseen = [
        *page.xpath(_UNSEEN),
        *(part for part in page.xpath("//*[@style]") if _HIDING.search(part.get("style"))),
    ]
    for element in unseen:
        if element.getparent() is not None:
            element.drop_tree()
    return page


def _config() -> ConfigParser:
    """Settings under which a short page is as good as a long one."""
    config = use_config()
    for name in ("MIN_EXTRACTED_SIZE", "MIN_OUTPUT_SIZE", "MIN_FILE_SIZE"):
        config["DEFAULT"][name] = "1"
    return config


def _mark_paragraphs(page: Any) -> None:
    """Make a paragraph of each `div` that holds nothing but text: the extraction drops text outside paragraphs."""
    for element in page.iter("div"):
        inside = list(element.iterdescendants())
        if all(inner.tag in _INLINE or inner.tag in {"br", "img", "wbr"} for inner in inside):
            element.tag = "p"


def _frame(page: Any) -> None:
    """Make all of the page one article where it does not have exactly one of its own.

    Without, the extraction takes the longest run of paragraphs and drops headings, lists and what is short.
    """
    framed = [*page.iter("article", "main")]
    if len(framed) == 1:
        return
    for element in framed:
        element.tag = "div"
    for body in page.iter("body"):
        article = lxml.html.Element("article")
        article.text, body.text = body.text, None
        article.extend(list(body))
        body.append(article)
        return


def _write(body: Any, writer: Writer) -> None:
    """Add the elements that the extraction gives: head, p, list, table, code, quote, and what wraps them."""
    writer.block(body.text or "")
    for part in body:
        if part.tag == "head":
            match = _LEVEL.fullmatch(part.get("rend", "h2"))
            writer.heading(int(match[1]) if match else 2, _text(part))
        elif part.tag == "list":
            for position, item in enumerate(part.iter("item")):
                writer.block(f"- {_text(item, without='list')}", "\n" if position else "\n\n")
        elif part.tag == "table":
            rows = (" | ".join(_text(cell).strip() for cell in row.iter("cell")) for row in part.iter("row"))
            writer.block("\n".join(rows))
        elif part.tag in {"code", "quote"}:
            writer.preformatted(_text(part))
        elif part.tag in {"div", "main", "article", "section"}:
            _write(part, writer)
        else:
            writer.block(_text(part))
        writer.block(part.tail or "")


def _plain(element: Any, writer: Writer, line: list[str]) -> None:
    """Add all the text of a page that has too little for the extraction to judge; `line` holds the open line."""
    match = _LEVEL.fullmatch(element.tag)
    if match:
        _end_line(writer, line)
        writer.heading(int(match[1]), _text(element))
        return
    breaks = element.tag not in _INLINE
    if breaks:
        _end_line(writer, line)
    line.append(element.text or "")
    for inner in element:
        _plain(inner, writer, line)
        line.append(inner.tail or "")
    if breaks:
        _end_line(writer, line)


def _end_line(writer: Writer, line: list[str]) -> None:
    writer.block(" ".join("".join(line).split()), "\n")
    line.clear()


def _text(part: Any, without: str = "") -> str:
    return "".join(_texts(part, without))


def _texts(part: Any, without: str) -> Iterator[str]:
    if part.tag == "lb":
        yield "\n"
    yield part.text or ""
    for inner in part:
        if inner.tag != without:
            yield from _texts(inner, without)
        yield inner.tail or ""
