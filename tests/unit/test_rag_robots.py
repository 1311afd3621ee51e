# SPDX-License-Identifier: Apache-2.0
"""What robots.txt, sitemaps and the links of pages say."""

import gzip
import time

import pytest

from lateen_serving.rag.web import links, robots, sitemaps

RULES = """
User-agent: other
Disallow: /

User-agent: *
User-agent: someone
Disallow: /private   # not for robots
Allow: /private/open
Disallow: /*.pdf$
Disallow: /search?q=
Disallow:
Crawl-delay: 2.5
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", True), ("/private", False), ("/private/x", False), ("/private/open/x", True), ("/privately", False),
        ("/a.pdf", False), ("/a.pdf?x=1", True), ("/b/c.pdf", False), ("/search?q=1", False), ("/search", True),
        ("/%70rivate/x", False), ("/robots.txt", True),
    ],
)  # fmt: skip
def test_the_longest_rule_that_fits_decides(path: str, allowed: bool) -> None:
    """Stars, ends and percent-encoding as RFC 9309 has them; an empty rule means nothing."""
    assert robots.parse(RULES).allows(path) is allowed


def test_own_rules_take_the_place_of_everybodys() -> None:
    """A group that names us is all that counts; several such groups are one; a delay is bounded."""
    rules = robots.parse(
        RULES
        + "User-agent: Lateen/1.0\nDisallow: /ours\nCrawl-delay: 900\n\nuser-agent: lateen\ndisallow: /too\n"
    )
    assert [rules.allows(path) for path in ("/private", "/ours", "/too/x")] == [True, False, False]
    assert (rules.delay, robots.parse(RULES).delay) == (10.0, 2.5)


@pytest.mark.parametrize("text", ["", "nonsense", "Disallow: /", "\0\1", "User-agent: *\nCrawl-delay: soon"])
def test_what_is_no_rule_forbids_nothing(text: str) -> None:
    """Lines outside of groups and unknown ones are passed over."""
    assert robots.parse(text) == robots.Robots() or robots.parse(text).allows("/x")


def test_no_pattern_is_slow() -> None:
    """A pattern of many stars takes no more than linear time for each."""
    started = time.monotonic()
    assert not robots.fits("/" + "a" * 100_000, "/" + "*a" * 500 + "*b")
    assert time.monotonic() - started < 5


SITEMAP = (
    b'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    b"<url><loc> https://a.example/x?y=1&amp;z=2 </loc><lastmod>2026-01-01</lastmod></url>"
    b"<url><loc>https://a.example/z</loc></url></urlset>"
)
INDEX = b"<sitemapindex><sitemap><loc>https://a.example/s1.xml</loc></sitemap></sitemapindex>"


@pytest.mark.parametrize("packed", [False, True])
def test_pages_and_sitemaps_are_listed(packed: bool) -> None:
    """Addresses are unescaped; files packed by gzip are read too."""
    given = gzip.compress(SITEMAP) if packed else SITEMAP
    assert sitemaps.parse(given).pages == ["https://a.example/x?y=1&z=2", "https://a.example/z"]
    assert sitemaps.parse(INDEX).sitemaps == ["https://a.example/s1.xml"]


ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><urlset><url><loc>&b;</loc></url></urlset>'


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no xml", b"<html></html>", ENTITIES, b"<urlset>", gzip.compress(SITEMAP)[:-20] + b"x" * 12,
        gzip.compress(b" " * (sitemaps.MAX_BYTES + 1)), b"<urlset>" + b"<a>" * 100 + b"</a>" * 100 + b"</urlset>",
        b'<?xml version="1.0" encoding="nonsense"?><urlset/>', b'<?xml version="1.0" encoding="shift_jis"?><urlset/>',
    ],
)  # fmt: skip
def test_what_is_no_sitemap_is_refused(data: bytes) -> None:
    """HTML, broken files, entities, bombs, deep nesting and encodings that can't be read."""
    with pytest.raises(sitemaps.Malformed):
        sitemaps.parse(data)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("HTTPS://A.example:443/x#y", "https://a.example/x"), ("https://a.example", "https://a.example/"),
        ("http://a.example:8080?q", "http://a.example:8080/?q"), ("https://[2606:4700::1]/", "https://[2606:4700::1]/"),
        ("https://u:p@a.example/", None), ("ftp://a.example/", None), ("file:///etc/passwd", None),
        ("gopher://a.example/", None), ("https:///x", None), ("https://a.example:x/", None), ("mailto:a@b", None),
        ("https://a.example/a b", None), ("https://a.example/\x07", None), ("https://a.example/" + "x" * 3000, None),
    ],
)  # fmt: skip
def test_addresses_have_one_form(address: str, expected: str | None) -> None:
    """Only http and https, without user, fragment or default port."""
    assert links.normal(address) == expected


def test_links_are_found_and_wishes_obeyed() -> None:
    """Relative ones are joined to the page or its base; nofollow links, other schemes and broken ones are left out."""
    html = """<base href="/docs/"><a href="a.html">A</a><a href='a.html#part'>A</a><a rel="nofollow" href="b">B</a>
    <a href="javascript:alert(1)">C</a><a href="//other.example/d">D</a><a href="https://[bad/">E</a><a>F</a><A HREF=../g>G"""
    found = links.read(html, "https://a.example/x/y")
    assert found.links == ("https://a.example/docs/a.html", "https://other.example/d", "https://a.example/g")
    assert found.indexed
    closed = links.read('<meta name="Robots" content="NOINDEX, nofollow"><a href="/x">', "https://a.example/")
    assert closed == links.Links((), indexed=False)


@pytest.mark.parametrize(
    "html",
    [
        "<a b='\"" * 50_000, "<a b='" * 33_000, "<" * 200_000, "<!--" * 50_000, "<![foo[x]]>", "&" * 200_000, "", "\0",
        "<a " + "x " * 100_000, "<div>" * 40_000, '<?xml version="1.0" encoding="nonsense"?><html/>',
    ],
    ids=range(11),
)  # fmt: skip
def test_no_page_keeps_the_reading_of_links(html: str) -> None:
    """What makes parsers slow, or fail, is read in a moment and has no links."""
    assert links.read(html, "https://a.example/") == links.Links()


def test_links_of_sloppy_pages_are_found() -> None:
    """In XHTML, below unclosed elements, beside broken declarations, in attributes that are said twice."""
    html = (
        '<?xml version="1.0" encoding="ISO-8859-1"?><html xmlns="http://www.w3.org/1999/xhtml"><body><font>'
        + "<p><b>" * 200
        + "<div>" * 1000
        + '<a href="a" href="x">A</a><![foo[x]]><![CDATA[x]]><a href="/\u00e9&amp;b">B</a><!-- <a href="no"> -->'
    )
    found = links.read(html, "https://a.example/d/")
    assert found.links == ("https://a.example/d/a", "https://a.example/\u00e9&b")


@pytest.mark.parametrize(
    ("address", "name", "path"),
    [
        ("https://a.example/", "a.example/index.html", ""),
        ("https://a.example:8443/b/c.md", "a.example:8443/b/c.md", "b/c.md"),
        ("https://a.example/b/?page=2", "a.example/b/index.html?page=2", "b/"),
        ("https://a.example/%C3%A9%00.html", "a.example/é.html", "é\0.html"),
    ],
)
def test_pages_have_names(address: str, name: str, path: str) -> None:
    """Host, path and query make a document's name; patterns see the path."""
    assert (links.document(address), links.path(address)) == (name, path)
