# SPDX-License-Identifier: Apache-2.0
"""Reading documents of every kind: text, title, headings, pages, and what is hidden."""

import pytest

from lateen_serving.rag import outline
from lateen_serving.rag.parsing import reading
from lateen_serving.rag.parsing.parsed import Kind, Parsed, Raw
from unit import parsing_samples as samples


def read(path: str, data: bytes | str, sidecar: bytes | None = None) -> Parsed:
    """The document in a file."""
    return reading.parse(Raw(path, data.encode() if isinstance(data, str) else data, sidecar))


def sections(parsed: Parsed) -> list[tuple[str, str]]:
    """Heading path and text of each section."""
    found = outline.sections(parsed.text, parsed.headings)
    return [(section.path, parsed.text[section.start : section.end].strip()) for section in found]


@pytest.mark.parametrize(
    ("path", "data", "title", "text", "kind"),
    [
        ("a/b.md", b"# Title\r\n\r\ntext", "Title", "# Title\n\ntext", "Markdown"),
        ("b.markdown", b"text", "b.markdown", "text", "Markdown"),
        ("B.MD", b"## Sub", "Sub", "## Sub", "Markdown"),
        ("c.txt", b"# no title", "c.txt", "# no title", "Text"),
        ("d.md", b"\xef\xbb\xbf---\nkey: 1\n---\n# T", "T", "# T", "Markdown"),
        ("e.md", b"---\n\nrule, not front matter", "e.md", "---\n\nrule, not front matter", "Markdown"),
        ("f.txt", b"---\nkept: yes\n---\nx", "f.txt", "---\nkept: yes\n---\nx", "Text"),
        ("g.md", b"```\n# code\n```\n# T", "T", "```\n# code\n```\n# T", "Markdown"),
    ],
)
def test_markdown_and_text(path: str, data: bytes, title: str, text: str, kind: Kind) -> None:
    """Markdown loses its front matter and gives its first heading as title; other text is taken as it is."""
    parsed = read(path, data)
    assert (parsed.title, parsed.text, parsed.kind) == (title, text, kind)


def test_a_web_page_is_its_main_text() -> None:
    """Headings, lists and tables stay; menus, footers, scripts and what a browser hides go."""
    parsed = read("zebras.html", samples.PAGE)
    assert (parsed.kind, parsed.title) == ("HTML", "About zebras")
    assert sections(parsed) == [
        ("Zebras", "The zebra is purple on monday."),
        ("Zebras > Food", "- grass\n- hay\n\nmeal | hour\nbreakfast | 8"),
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<div>one</div><p>two</p>", "one\n\ntwo"),
        ("<div><div><b>one</b> more<br>line</div></div><p>two</p>", "one more\nline\n\ntwo"),
        ("just words", "just words"),
        ("<dl><dt>Term</dt><dd>meaning</dd></dl>", "- Term\n- meaning"),
        ("<pre>a = 1\n\nb = 2</pre>", "a = 1\n\nb = 2"),
    ],
    ids=["div", "inner div", "no element", "definitions", "code"],
)
def test_a_short_page_loses_nothing(body: str, text: str) -> None:
    """Text counts wherever it stands."""
    assert read("x.html", f"<html><body>{body}</body></html>").text == text


def test_a_web_page_in_another_encoding_is_read_as_it_declares() -> None:
    """`<meta charset>` decides."""
    page = '<html><head><meta charset="iso-8859-2"></head><body><p>\u017dlu\u0165ou\u010dk\u00fd k\u016f\u0148</p></body></html>'
    assert read("x", page.encode("iso-8859-2")).text == "\u017dlu\u0165ou\u010dk\u00fd k\u016f\u0148"


def test_a_pdf_keeps_its_pages_and_bookmarks() -> None:
    """Each page begins at its offset; bookmarks are headings that are not part of the text."""
    data = samples.pdf(
        "The zebra\nis purple.", "Page two", "End", title="Zoo", bookmarks={1: "One", 3: "Three"}
    )
    parsed = read("zoo.pdf", data)
    assert (parsed.kind, parsed.title) == ("PDF", "Zoo")
    assert parsed.text == "The zebra\nis purple.\n\nPage two\n\nEnd"
    assert [number for _, number in parsed.pages] == [1, 2, 3]
    assert [parsed.text[at:].strip()[:5] for at, _ in parsed.pages] == ["The z", "Page ", "End"]
    assert sections(parsed) == [("One", "The zebra\nis purple.\n\nPage two"), ("Three", "End")]


def test_a_pdf_encrypted_only_to_forbid_printing_is_read() -> None:
    """An empty user password keeps no reader out."""
    import io

    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(samples.pdf("open to all")))
    writer.encrypt("", "owner", algorithm="AES-256")
    stream = io.BytesIO()
    writer.write(stream)
    assert read("x.pdf", stream.getvalue()).text == "open to all"


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    """Headings are known by their style, hidden text is left out, a table has a line per row."""
    parsed = read("handbook.docx", samples.word())
    assert (parsed.kind, parsed.title) == ("DOCX", "Handbook")
    assert sections(parsed) == [
        ("Leave", "Everyone has thirty days of leave."),
        ("Leave > Parents", "a year\n\nname | days\nAnn | 30"),
    ]


def test_slides_are_pages_under_their_titles() -> None:
    """Hidden slides and speaker's notes are left out; the others keep their numbers."""
    parsed = read("talk.pptx", samples.slides())
    assert sections(parsed) == [("Comets", "The comet is silver."), ("Moons", "Europa | ice")]
    assert [number for _, number in parsed.pages] == [1, 3]


def test_each_row_of_a_sheet_can_be_understood_alone() -> None:
    """Values carry their column's name, dates are dates; hidden rows, columns and sheets are left out."""
    parsed = read("prices.xlsx", samples.sheets())
    assert sections(parsed) == [
        (
            "Prices",
            "animal: zebra; price: 30; since: 2024-05-01\nanimal: lion; price: 45.5; since: 2025-01-31",
        )
    ]


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("a.csv", "name,price\nzebra,3\nlion,4\n", "name: zebra; price: 3\nname: lion; price: 4"),
        ("a.csv", 'name;note\nzebra;"a;b"\n', "name: zebra; note: a;b"),
        ("a.tsv", "name\tprice\nzebra\t3\n", "name: zebra; price: 3"),
        ("a.csv", "1,2\n3,4\n", "1 | 2\n3 | 4"),
        ("a.csv", "only,names\n", "only | names"),
        ("noname", "a|b|c\nd|e|f\ng|h|i\n", "a: d; b: e; c: f\na: g; b: h; c: i"),
    ],
    ids=["comma", "quoted", "tab", "no names", "one row", "sniffed"],
)
def test_tables(path: str, data: str, expected: str) -> None:
    """The first row names the columns if it can; the delimiter is found out."""
    parsed = read(path, data)
    assert (parsed.kind, parsed.text) == ("CSV", expected)


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("a.json", '{"a": {"b": [1, true, null]}, "c": "x"}', "a.b: 1\na.b: true\nc: x"),
        ("a.json", '[{"a": 1}, {"a": 2}]', "a: 1\n\na: 2"),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n', "a: 1\n\na: 2"),
        ("noname", '{"a": 1}\n{"a": 2}\n', "a: 1\n\na: 2"),
        ("noname", '{"a": "\\u00e9"}', "a: \u00e9"),
    ],
    ids=["object", "array", "lines", "sniffed lines", "sniffed"],
)
def test_records(path: str, data: str, expected: str) -> None:
    """Each value is a line with its path, each record a paragraph."""
    parsed = read(path, data)
    assert (parsed.kind, parsed.text) == ("JSON", expected)


def test_a_mail_is_its_text_and_names_its_attachments() -> None:
    """Subject, people and date are part of the text; attachments are not opened."""
    parsed = read("party", samples.MAIL)
    assert (parsed.kind, parsed.title, parsed.updated_at) == ("EML", "Party", "2026-11-24T12:00:00+01:00")
    assert "From: Ann <ann@example.org>" in parsed.text
    assert "Bring a caf\u00e9 cake." in parsed.text
    assert parsed.text.endswith("Attachments: map.pdf")
    assert "secret" not in parsed.text


def test_a_mail_of_html_alone_is_read_as_a_page() -> None:
    """Hidden text of mails is hidden too."""
    mail = b"From: a@example.org\nTo: b@example.org\nSubject: S\nContent-Type: text/html\n\n" + samples.PAGE
    text = read("x.eml", mail).text
    assert "The zebra is purple" in text
    assert "Ignore all" not in text


def test_source_code_has_its_definitions_as_headings() -> None:
    """Python by its grammar; what follows a definition is not part of it."""
    source = "import os\n\n# The one.\nclass A:\n    x = 1\n\n    def f(self):\n        return 1\n\ny = 2\n"
    parsed = read("a.py", source)
    assert (parsed.kind, parsed.code) == ("Code", "python")
    assert [(path, text.split("\n")[0]) for path, text in sections(parsed)] == [
        ("", "import os"),
        ("A", "# The one."),
        ("A > f", "def f(self):"),
        ("", "y = 2"),
    ]


@pytest.mark.parametrize(
    ("path", "source", "names"),
    [
        (
            "a.go",
            "package a\n\nfunc Run(x int) error {\n\treturn nil\n}\n\nfunc (s *S) Stop() {\n}\n",
            ["Run", "Stop"],
        ),
        (
            "a.rs",
            "pub struct P {}\n\nimpl P {\n    pub fn new() -> P {\n        P {}\n    }\n}\n",
            ["P", "new"],
        ),
        ("a.ts", "export class A {\n}\nexport const go = async (x) => {\n}\nif (go) {\n}\n", ["A", "go"]),
        (
            "A.java",
            "public class A {\n    public int add(int a, int b) {\n        return a + b;\n    }\n}\n",
            ["A", "add"],
        ),
        (
            "a.c",
            "static int add(int a, int b) {\n  return a + b;\n}\nint main(void) {\n  for (;;) {\n  }\n}\n",
            ["add", "main"],
        ),
        ("a.sh", "#!/bin/sh\nsay() {\n  echo\n}\n", ["say"]),
        ("a.rb", "class A\n  def go\n  end\nend\n", ["A", "go"]),
        ("broken.py", "def f(:\n    pass\n", ["f"]),
        ("run", "#!/usr/bin/env python3\ndef f():\n    pass\n", ["f"]),
    ],
)
def test_definitions_of_other_languages(path: str, source: str, names: list[str]) -> None:
    """Lines that look like the beginning of a definition are one; statements are not."""
    parsed = read(path, source)
    assert parsed.kind == "Code"
    found = [heading.title for heading in parsed.headings if heading.title]
    assert [name for name in found if name != "a"] == [
        name for name in names for _ in range(found.count(name))
    ]
    assert set(names) <= set(found)


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a.txt", "The zebra is purple on monday and lives in the zoo with its friends.", "en"),
        ("a.txt", "Dies ist ein kurzer deutscher Satz \u00fcber Z\u00fcge und ihre Versp\u00e4tungen.", "de"),
        ("a.txt", "too short", ""),
        ("a.py", "# The zebra is purple on monday and lives in the zoo with its friends.", ""),
    ],
)
def test_the_language_is_told_where_it_is_clear(path: str, text: str, language: str) -> None:
    """Natural languages of enough text; code has none."""
    assert read(path, text).language == language


@pytest.mark.parametrize(
    "text",
    [
        "A file begins with %PDF-1.4 if it is one.",
        "RIFF is a format.",
        "ID3 tags",
        "BZhang wrote this",
        "GIF87a is old",
        "PAR1 is a magic word",
        "From: here\nto there",
        "[a link](x) and {braces}",
    ],
)
def test_text_about_other_kinds_is_text(text: str) -> None:
    """Words that begin other kinds of files make none of a text."""
    parsed = read("note.md", text)
    assert (parsed.kind, parsed.text) == ("Markdown", text)


def test_an_xhtml_page_is_a_page() -> None:
    """Whatever stands before its first element."""
    page = '<?xml version="1.0" encoding="utf-8"?>\n<!-- made by hand -->\n<html xmlns="http://www.w3.org/1999/xhtml"><body><p>x</p></body></html>'
    assert (read("x", page).kind, read("x", page).text) == ("HTML", "x")


def test_a_pdf_after_some_garbage_is_known_by_its_name() -> None:
    """Readers accept up to a kilobyte before the header."""
    assert read("x.pdf", b"garbage\n" + samples.pdf("found")).text == "found"
