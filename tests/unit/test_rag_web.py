# SPDX-License-Identifier: Apache-2.0
"""Web sites as sources: what is read of them, and what is read again."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from lateen_serving.outbound import retrying
from lateen_serving.rag import files, sidecars
from lateen_serving.rag.protocol import Cursor
from lateen_serving.rag.web import walk
from unit.rag_site import HOST, SITE, Site, failing, failures, ids, linked, page


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with four pages that link to each other."""
    return linked(tmp_path)


async def test_listed_pages_are_documents(site: Site) -> None:
    """Each has an id, an address and its content; nothing else is asked for."""
    loaded = await site.load(urls=[f"{SITE}/b.md", f"{SITE}/a", f"https://{HOST}:443/a"])
    assert ids(loaded) == ["a", "b.md"]
    first = next(item for item in loaded.documents if item.path.endswith("b.md"))
    assert (first.uri, first.size, await first.read()) == (f"{SITE}/b.md", 3, b"# B")
    assert sorted(site.paths()) == ["/a", "/b.md"]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (1, ["a", "b.md", "index.html"]),
        (2, ["a", "b.md", "c", "index.html"]),
        (3, ["a", "b.md", "c", "d", "index.html"]),
    ],
)
async def test_links_are_followed_as_far_as_wanted(site: Site, depth: int, expected: list[str]) -> None:
    """Within the site and by depth; images and missing pages that were only linked are no failures."""
    loaded = await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": depth})
    assert ids(loaded) == expected
    assert loaded.failures == []
    assert all(request.url.host == HOST for request in site.server.asked)


async def test_patterns_and_bounds_select_pages(site: Site) -> None:
    """Links of pages that are not included are followed, those of excluded ones not; what is beyond is counted."""
    loaded = await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": 3}, include=["c", "d"])
    assert ids(loaded) == ["c", "d"]
    site.cursor = Cursor()  # as with every change of a source's settings
    loaded = await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": 3}, exclude=["a"])
    assert ids(loaded) == ["b.md", "index.html"]
    site.cursor = Cursor()
    loaded = await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": 3}, maxPages=2)
    assert (ids(loaded), loaded.left_out) == (["a", "index.html"], 4)


async def test_unchanged_pages_are_not_sent_again(site: Site) -> None:
    """Asked with their entity tags; the links of unchanged pages are still known, a changed page is read."""
    wanted = {"urls": [f"{SITE}/"], "crawl": {"maxDepth": 3}}
    first = await site.load(**wanted)
    site.server.pages["/d"] = page("new")
    second = await site.load(**wanted)
    assert ids(second) == ids(first)
    assert {item.path for item in second.documents if not item.unchanged} == {f"{HOST}/d"}
    assert [request.headers["if-none-match"] for request in site.server.asked if request.url.path == "/c"]


@pytest.mark.parametrize(
    ("first", "second"), [("x.md", "x.md.metadata.json"), ("x.md.metadata.json", "x.md")]
)
async def test_what_gets_a_partner_is_read_again(site: Site, first: str, second: str) -> None:
    """An unchanged page beside which a sidecar file appears, and the other way round: both can be read."""
    site.server.pages[f"/{first}"] = page('{"x": 1}', "text/plain")
    wanted = {"urls": [f"{SITE}/{first}", f"{SITE}/{second}", f"{SITE}/b.md"]}
    await site.load(**wanted)
    site.server.pages[f"/{second}"] = page('{"y": 1}', "application/json")
    loaded = await site.load(**wanted)
    documents = sidecars.paired(loaded.documents, site.cursor)
    assert [item.path for item in documents if item.unchanged] == [f"{HOST}/b.md"]
    (found,) = [item for item in documents if item.sidecar is not None]
    assert found.sidecar is not None
    assert {await found.read(), await found.sidecar.read()} == {b'{"x": 1}', b'{"y": 1}'}


async def test_a_page_that_got_a_partner_may_fail_the_second_time(site: Site) -> None:
    """What was unchanged and can't be read again is Unreadable, and no document without content."""
    site.server.pages["/x.md"] = page("x", "text/plain")
    wanted = {"urls": [f"{SITE}/x.md", f"{SITE}/x.md.metadata.json"]}
    await site.load(**wanted)
    site.server.pages |= {
        "/x.md.metadata.json": page("{}", "application/json"),
        "/x.md": lambda request: httpx.Response(304 if "if-none-match" in request.headers else 503),
    }
    loaded = await site.load(**wanted)
    assert (ids(loaded), failures(loaded)) == (["x.md.metadata.json"], {"x.md": "Unreadable"})


async def test_what_is_not_indexed_is_sent_again(site: Site) -> None:
    """A page whose indexing was interrupted is asked for without conditions."""
    await site.load(urls=[f"{SITE}/a"])
    site.cursor = Cursor(site.cursor.state, {})
    loaded = await site.load(urls=[f"{SITE}/a"])
    assert [document.unchanged for document in loaded.documents] == [False]


@pytest.mark.parametrize("status", [503, 401, 403, 418])
async def test_a_page_that_fails_for_now_keeps_its_place_and_its_links(site: Site, status: int) -> None:
    """It is Unreadable, so that nothing of it is removed, and the pages behind it are still found."""
    wanted = {"urls": [f"{SITE}/"], "crawl": {"maxDepth": 3}}
    await site.load(**wanted)
    site.server.pages["/a"] = failing(status)
    loaded = await site.load(**wanted)
    assert failures(loaded) == {"a": "Unreadable"}
    assert ids(loaded) == ["b.md", "c", "d", "index.html"]


async def test_a_page_whose_links_nobody_knows_makes_the_walk_incomplete(site: Site) -> None:
    """What lies behind it may be there: nothing is taken for removed. It may have redirected, so depth does not matter."""
    site.server.pages["/a"] = failing(503)
    loaded = await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": 3})
    assert (failures(loaded), loaded.incomplete) == ({"a": "Unreadable"}, True)
    site.cursor = Cursor()
    assert (await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": 1})).incomplete
    site.server.pages["/a"] = failing(404)
    site.cursor = Cursor()
    assert not (await site.load(urls=[f"{SITE}/"], crawl={"maxDepth": 1})).incomplete


async def test_a_page_that_nobody_has_read_stays_unknown_however_often_it_fails(site: Site) -> None:
    """After changed settings nothing is known of the links: each walk without the page is incomplete, not only the first."""
    site.server.pages["/a"] = failing(503)
    wanted: dict[str, Any] = {"urls": [f"{SITE}/"], "crawl": {"maxDepth": 3}}
    assert [(await site.load(**wanted)).incomplete for _ in range(3)] == [True, True, True]
    site.server.pages["/a"] = page('<a href="/c">')
    loaded = await site.load(**wanted)
    assert (ids(loaded), loaded.incomplete) == (["a", "b.md", "c", "d", "index.html"], False)


async def test_a_page_that_grew_too_long_still_leads_to_what_lies_behind_it(site: Site) -> None:
    """It leaves the index itself, the pages it is known to lead to don't; short again, it is back."""
    wanted: dict[str, Any] = {"urls": [f"{SITE}/"], "crawl": {"maxDepth": 3}}
    before = site.server.pages["/a"]
    await site.load(**wanted)
    site.server.pages["/a"] = page("x" * 3000)
    for _ in range(2):
        loaded = await site.load(**wanted)
        assert (ids(loaded), failures(loaded)) == (["b.md", "c", "d", "index.html"], {"a": "TooLarge"})
    site.server.pages["/a"] = before
    assert ids(await site.load(**wanted)) == ["a", "b.md", "c", "d", "index.html"]


async def test_robots_are_obeyed(site: Site) -> None:
    """Forbidden pages are not asked for, also not listed ones; pages may ask not to be indexed or followed."""
    site.server.pages["/robots.txt"] = b"User-agent: *\nDisallow: /a\n"
    site.server.pages["/"] = page('<meta name="robots" content="noindex"><a href="/a"><a href="/c">')
    loaded = await site.load(urls=[f"{SITE}/", f"{SITE}/a"], crawl={"maxDepth": 1})
    assert (ids(loaded), failures(loaded)) == (["c"], {"a": "Refused"})
    assert "/a" not in site.paths()


async def test_without_readable_robots_nothing_is_read(site: Site) -> None:
    """A server error for robots.txt is no permission."""
    site.server.pages["/robots.txt"] = failing(500)
    assert (await site.failure(urls=[f"{SITE}/a"])).reason == "SourceUnavailable"
    assert site.paths() == []


async def test_sitemaps_list_pages_of_their_own_site(site: Site) -> None:
    """Nested ones too; a sitemap that is none, or away, is the source's failure."""
    # An index that names itself is read once.
    inner = f"<urlset><url><loc>{SITE}/a</loc></url><url><loc>https://93.184.216.35/x</loc></url></urlset>"
    site.server.pages |= {
        "/sitemap.xml": (
            f"<sitemapindex><sitemap><loc>{SITE}/in.xml</loc></sitemap>"
            f"<sitemap><loc>{SITE}/sitemap.xml</loc></sitemap></sitemapindex>"
        ).encode(),
        "/in.xml": inner.encode(),
    }
    assert ids(await site.load(sitemap=f"{SITE}/sitemap.xml")) == ["a"]
    assert (await site.failure(sitemap=f"{SITE}/a")).reason == "SourceRefused"
    assert (await site.failure(sitemap=f"{SITE}/none.xml")).reason == "SourceNotFound"


async def test_a_date_beyond_the_calendar_is_no_date(site: Site) -> None:
    """The page whose last change lies after the year 9999 in UTC is a document without a time."""
    headers = {"last-modified": "Fri, 31 Dec 9999 23:59:59 -0100"}
    site.server.pages["/late"] = lambda _: httpx.Response(200, headers=headers, text="x")
    loaded = await site.load(urls=[f"{SITE}/late"])
    assert [(item.path, item.updated_at) for item in loaded.documents] == [(f"{HOST}/late", "")]


async def test_sitemaps_are_read_until_there_are_pages_enough(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one more once they list `maxPages`, nor more than the bound; what is left unread is counted."""
    listed = "".join(f"<sitemap><loc>{SITE}/{name}.xml</loc></sitemap>" for name in "abcd")
    site.server.pages["/sitemap.xml"] = f"<sitemapindex>{listed}</sitemapindex>".encode()
    for name in "abcd":
        urls = "".join(f"<url><loc>{SITE}/{url}</loc></url>" for url in (name, name, f"{name}2", "no"))
        site.server.pages |= {f"/{name}.xml": f"<urlset>{urls}</urlset>".encode(), f"/{name}": page(name)}
    wanted: dict[str, Any] = {"sitemap": f"{SITE}/sitemap.xml", "exclude": ["no"]}
    loaded = await site.load(**wanted, maxPages=3)
    assert ids(loaded) == ["a", "b"]
    assert [path for path in site.paths() if path.endswith(".xml")] == ["/sitemap.xml", "/a.xml", "/b.xml"]
    assert loaded.left_out == len(["b2", "c.xml", "d.xml"])
    monkeypatch.setattr(walk, "_MAX_SITEMAPS", 2)
    loaded = await site.load(**wanted)
    assert (ids(loaded), loaded.left_out) == (["a"], len(["b.xml", "c.xml", "d.xml"]))


async def test_the_pages_of_a_source_have_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they may have no more bytes than the files of any other source: then the source fails as a whole."""
    wanted: dict[str, Any] = {"urls": [f"{SITE}/a", f"{SITE}/b.md"]}
    monkeypatch.setattr(files, "MAX_BYTES", sum(item.size for item in (await site.load(**wanted)).documents))
    site.cursor = Cursor()
    assert len((await site.load(**wanted)).documents) == 2
    site.cursor = Cursor()
    monkeypatch.setattr(files, "MAX_BYTES", files.MAX_BYTES - 1)
    assert (await site.failure(**wanted)).reason == "TooLarge"


async def test_no_more_addresses_are_remembered_than_the_bound(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the pages whose links are not followed now, and of unchanged ones."""
    monkeypatch.setattr(walk, "_MAX_KNOWN", 3)
    wanted: dict[str, Any] = {"urls": [f"{SITE}/"], "crawl": {"maxDepth": 1}}
    for left_out in (1, 0):  # the second time the page is unchanged, and the link is not remembered
        loaded = await site.load(**wanted)
        assert (ids(loaded), loaded.left_out) == (["a", "b.md", "index.html"], left_out)
        assert set(loaded.state["addresses"]) == {f"{SITE}/", f"{SITE}/a", f"{SITE}/b.md"}
