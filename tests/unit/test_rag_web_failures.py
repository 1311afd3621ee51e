# SPDX-License-Identifier: Apache-2.0
"""Web sites as sources: what fails, what may never be asked, and who is told which credentials."""

import socket
from pathlib import Path
from typing import Any

import pytest

from lateen_serving.outbound import retrying
from lateen_serving.rag.web import pages, walk
from unit.rag_site import HOST, SITE, Answer, Site, failing, failures, ids, linked, moved, page


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with four pages that link to each other."""
    return linked(tmp_path)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failing(404), "SourceNotFound"), (failing(401), "SourceUnauthorized"), (failing(403), "SourceUnauthorized"),
        (failing(503), "SourceUnavailable"), (failing(418), "SourceRefused"), (moved("/a"), "SourceRefused"),
    ],
)  # fmt: skip
async def test_a_source_without_a_page_fails_as_a_whole(site: Site, answer: Answer, reason: str) -> None:
    """Missing, refused, broken, turning in circles: each has its reason."""
    site.server.pages["/a"] = answer
    assert (await site.failure(urls=[f"{SITE}/a"])).reason == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failing(404), "NotFound"), (failing(410), "NotFound"), (failing(403), "Unreadable"),
        (moved("https://10.0.0.1/"), "Unreadable"), (moved(f"{SITE}:99999/"), "Unreadable"),
        (page("x" * 3000), "TooLarge"), (page("x", packing="gzip"), "Unreadable"),
        (failing(502), "Unreadable"),
    ],
)  # fmt: skip
async def test_a_listed_page_fails_alone(site: Site, answer: Answer, reason: str) -> None:
    """Its failure is listed, the others are read."""
    site.server.pages["/a"] = answer
    loaded = await site.load(urls=[f"{SITE}/a", f"{SITE}/b.md"])
    assert (ids(loaded), failures(loaded)) == (["b.md"], {"a": reason})


async def test_a_dead_server_is_given_up(site: Site) -> None:
    """After some pages in a row that can't be read, nothing more is asked."""
    site.server.pages |= {f"/{number}": failing(503) for number in range(40)}
    failure = await site.failure(urls=[f"{SITE}/b.md", *(f"{SITE}/{number}" for number in range(40))])
    assert failure.reason == "SourceUnavailable"
    assert len(set(site.paths())) <= walk.MOST_FAILURES + 5


async def test_a_page_that_never_ends_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is bounded."""
    monkeypatch.setattr(pages, "PAGE_SECONDS", 0.0)
    assert (await site.failure(urls=[f"{SITE}/a"])).reason == "SourceUnavailable"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data",
        "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.1/", "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://0.0.0.0/", "http://93.184.216.34/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["listed", "redirect", "sitemap"])
async def test_private_addresses_are_never_asked(site: Site, url: str, way: str) -> None:
    """In every way to write them, named by the spec or by a server: refused before anything is sent there."""
    site.server.pages["/away"] = moved(url)
    wanted: dict[str, dict[str, Any]] = {
        "listed": {"urls": [url]},
        "redirect": {"urls": [f"{SITE}/away"]},
        "sitemap": {"sitemap": url},
    }
    assert (await site.failure(**wanted[way])).reason == "SourceRefused"
    assert {request.url.host for request in site.server.asked} <= {HOST}
    assert {request.url.scheme for request in site.server.asked} <= {"https"}


async def test_a_name_that_changes_its_meaning_gains_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is checked when it is connected to: what the name meant before does not count (rebinding)."""
    answers = iter([HOST, HOST, "10.0.0.1"])

    def lookup(name: str, port: int, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers, "10.0.0.1"), port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    loaded = await site.load(urls=["https://turning.example/a", "https://turning.example/c"])
    assert len(loaded.documents) == 1
    assert ["is refused" in failure.message for failure in loaded.failures] == [True]
    assert {request.url.host for request in site.server.asked} == {HOST}


async def test_a_page_on_a_foreign_site_keeps_the_name_that_was_asked_for(site: Site) -> None:
    """A signed address, new with every redirect, is neither its id nor its uri nor kept; links in it are its own."""
    elsewhere = "https://93.184.216.35/store/page"
    site.server.pages["/store/page"] = page(f'<a href="b.md"><a href="{SITE}/d">')
    wanted: dict[str, Any] = {"urls": [f"{SITE}/away"], "crawl": {"maxDepth": 1}}
    for run in range(2):
        site.server.pages["/away"] = moved(f"{elsewhere}?signature=secret{run}")
        loaded = await site.load(**wanted)
        assert ids(loaded) == ["away", "d"]
        assert [item.uri for item in loaded.documents] == [f"{SITE}/away", f"{SITE}/d"]
        assert [item.unchanged for item in loaded.documents] == [run > 0] * 2
        assert "secret" not in str(loaded.state)
    site.server.pages["/away"] = moved("/b.md")
    assert ids(await site.load(**wanted)) == ["b.md"]


async def test_credentials_go_to_the_named_sites_alone(site: Site) -> None:
    """A Secret's token is sent to them and not to where they redirect; without the Secret the source is refused."""
    wanted: dict[str, Any] = {"urls": [f"{SITE}/a", f"{SITE}/away"], "secretRef": {"name": "login"}}
    assert (await site.failure(**wanted)).reason == "SourceUnauthorized"
    folder = site.settings.secrets / "team" / "login"
    folder.mkdir(parents=True)
    (folder / "token").write_text("hunter2\n")
    site.server.pages["/away"] = moved("https://93.184.216.35/a")
    await site.load(**wanted)
    sent = {request.url.host: request.headers.get("authorization") for request in site.server.asked}
    assert sent == {HOST: "Bearer hunter2", "93.184.216.35": None}
