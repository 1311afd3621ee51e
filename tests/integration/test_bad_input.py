# SPDX-License-Identifier: Apache-2.0
"""What a live index does with sources and documents that are no good: each is named with a reason, the rest answers.

One synchronization meets them all, since a build costs seconds; each has a test of its own.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from stack import asking, git_server, manifests, web_server
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import Weaviate
from stack.processes import named
from stack.repositories import Repository
from stack.waiting import wait_for
from unit import parsing_samples as samples

KIND = "ragindexes.lateen.dev"
DOCUMENTS = {
    "zebra.md": "# Zebra\nThe zebra is purple on monday.",
    "walrus.md": "# Walrus\nThe walrus plays the trumpet.",
}
PARAGRAPHS = 1_500_000
"""So many make a small Word document that takes about 20 s to read."""
PARSES_SECONDS = 8.0
"""Seconds of work after which a process must be reading that one: no other takes half as long, imports included."""


@dataclass(frozen=True)
class Refused:
    """What the status says of one that is no good."""

    reason: str
    message: str
    """A regular expression."""


SOURCES = {
    "no-repository": Refused("SourceNotFound", r"no such repository.*127\.0\.0\.1:\d+/nothing\.git"),
    "no-host": Refused("SourceUnavailable", r"git\.invalid"),
    "wrong-login": Refused("SourceUnauthorized", r"asks for other credentials; .*team-login"),
    "no-claim": Refused("SourceNotFound", r"claim nowhere is not mounted on the Ray nodes"),
    "no-page": Refused("SourceNotFound", r"/gone does not exist \(404\)"),
    "circle": Refused("SourceRefused", r"/circle redirects too often"),
    "private": Refused("SourceRefused", r"10\.0\.0\.1.*is refused"),
    "metadata": Refused("SourceRefused", r"169\.254\.169\.254.*is always refused"),
    "empty": Refused("SourceNotFound", r"no file that path, include and exclude take; .*remove the source"),
    "twice": Refused("SourceRefused", r"two rows have one id; select a column"),
}
"""By name of the source."""

FILES = {
    "huge/127.0.0.1/told.md": Refused("TooLarge", r"20971520 bytes.*maxDocumentBytes"),
    "huge/127.0.0.1/untold.md": Refused("TooLarge", r"20971520 bytes.*maxDocumentBytes"),
    "files/big.txt": Refused(
        "TooLarge", r"1073741824 bytes; spec\.parsing\.maxDocumentBytes allows 20971520"
    ),
    "files/bomb.docx": Refused("Bomb", r"unpacks to more than 256 MiB"),
    "files/locked.pdf": Refused("Encrypted", r"asks for a password; store it without one"),
    "files/broken.md": Refused("NotText", r"utf-32 but is not"),
    "files/blank.md": Refused("Empty", r"the file is empty"),
    "files/endless.docx": Refused("Crashed", r"reading it killed the process that read it"),
}
"""By id of the document, without the port."""


@dataclass(frozen=True)
class Met:
    """The index before and after it met all of them."""

    name: str
    before: dict[str, Any]
    found: dict[str, Any]
    report: dict[str, Any]
    """Of the build that met them."""

    @property
    def failures(self) -> dict[str, dict[str, str]]:
        """By source or document, without ports."""
        listed = self.found["status"]["failures"]
        return {re.sub(r"(?<=127\.0\.0\.1):\d+", "", each["document"]): each for each in listed}


@pytest.fixture(scope="module")
def met(
    cluster: Cluster,
    shared_namespace: str,
    embedder: str,
    stack: LocalStack,
    weaviate: Weaviate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Met]:
    """A live index whose next spec has them all; the worker that reads `endless.docx` is killed as often as it is started."""
    namespace, folder = shared_namespace, tmp_path_factory.mktemp("bad")
    good = {"docs": manifests.inline(DOCUMENTS)}
    cluster.apply(manifests.index(namespace, "met", "embedder", good))
    before = cluster.wait_ready(KIND, namespace, "met", timeout=120)["status"]
    with ExitStack() as servers:
        repositories = folder / "repositories"
        Repository.create(repositories / "handbook").commit(DOCUMENTS)
        git = servers.enter_context(git_server.serving(repositories, stack.git_pki.folder))
        site = servers.enter_context(
            web_server.serving(
                {
                    "/circle": web_server.Moved("/circle"),
                    "/told.md": web_server.Huge(told=True),
                    "/untold.md": web_server.Huge(told=False),
                    "/good.md": "# Comet\nThe comet is silver.",
                }
            )
        )
        files = stack.volume("documents") / f"{namespace}-bad"
        write_files(files)
        cluster.apply(*logins(stack, namespace, folder))
        sources = good | bad_sources(git.address, site.address, namespace)
        cluster.apply(manifests.index(namespace, "met", "embedder", sources))
        kill_parsers(cluster, stack, namespace)
        found, report = cluster.get(KIND, namespace, "met"), weaviate.report(before["collection"])
        (
            files / "endless.docx"
        ).unlink()  # nobody kills the one that reads it when the sources are tried again
        yield Met("met", before, found, report)


def write_files(folder: Path) -> None:
    """A good file, those of `FILES`, and a folder without any."""
    (folder / "empty").mkdir(parents=True)
    (folder / "good.md").write_text("# Volcano\nThe volcano sleeps.")
    for name, data in {
        "bomb.docx": samples.zip_bomb(),
        "locked.pdf": samples.pdf("secret", password="p"),
        "broken.md": b"\xff\xfe\x00\x00 not text \x00\xff",
        "blank.md": b" \n\n",
        "endless.docx": samples.long_word(PARAGRAPHS),
    }.items():
        (folder / name).write_bytes(data)
    with (folder / "big.txt").open("wb") as file:
        file.truncate(1 << 30)


def logins(stack: LocalStack, namespace: str, folder: Path) -> list[manifests.Manifest]:
    """Secrets: credentials that the Git server does not know, and the address of a table that has an id twice."""
    table = stack.volume("databases") / f"{namespace}-bad.db"
    with closing(sqlite3.connect(table)) as database:
        database.execute("CREATE TABLE pages (id TEXT, text TEXT)")
        database.executemany("INSERT INTO pages VALUES ('zebra', ?)", [("purple",), ("orange",)])
        database.commit()
    return [
        manifests.secret(namespace, "team-login", {"username": "reader", "password": "wrong"}),
        manifests.secret(
            namespace, "team-right", dict(zip(("username", "password"), git_server.LOGIN, strict=True))
        ),
        manifests.secret(namespace, "team-table", {"url": f"sqlite:///{table}"}),
    ]


def bad_sources(git: str, site: str, namespace: str) -> dict[str, dict[str, Any]]:
    """Those of `SOURCES`, and two with good and bad documents."""

    def login(name: str) -> dict[str, Any]:
        return {"secretRef": {"name": name}}

    def http(*urls: str) -> dict[str, Any]:
        return {"http": {"urls": list(urls)}}

    files = {"claimName": "documents", "path": f"{namespace}-bad", "include": ["*"]}
    query = "SELECT id, text FROM pages"
    return {
        "no-repository": {"git": {"url": f"{git}/nothing.git"} | login("team-right")},
        "no-host": {"git": {"url": "https://git.invalid/handbook.git"}},
        "wrong-login": {"git": {"url": f"{git}/handbook"} | login("team-login")},
        "no-claim": {"pvc": {"claimName": "nowhere"}},
        "no-page": http(f"{site}/gone"),
        "circle": http(f"{site}/circle"),
        "private": http("https://10.0.0.1/"),
        "metadata": http("https://169.254.169.254/latest/meta-data"),
        "empty": {"pvc": {"claimName": "documents", "path": f"{namespace}-bad/empty"}},
        "twice": {"sql": {"query": query} | login("team-table")},
        "huge": http(*(f"{site}/{name}.md" for name in ("told", "untold", "good"))),
        "files": {"pvc": files},
    }


def kill_parsers(cluster: Cluster, stack: LocalStack, namespace: str) -> None:
    """Kill whatever reads for so long that it must be `endless.docx`, until the index has met everything."""
    first: dict[int, float] = {}

    def met_all() -> bool:
        for process in named(stack, "ray::_parse"):
            try:
                spent = process.cpu_times().user
                if spent - first.setdefault(process.pid, spent) > PARSES_SECONDS:
                    process.kill()
            except psutil.NoSuchProcess:
                continue
        return bool(cluster.status(KIND, namespace, "met").get("failed"))

    wait_for(met_all, 180, lambda: f"not synced: {cluster.status(KIND, namespace, 'met')}", interval=0.3)


def expect(failure: Mapping[str, str] | None, refused: Refused) -> None:
    """A failure is as it should be."""
    assert failure is not None, "the status does not name it"
    assert failure["reason"] == refused.reason, failure["message"]
    assert re.search(refused.message, failure["message"]), failure["message"]


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_is_no_good_is_named(met: Met, name: str) -> None:
    """With a reason and what to look at; in the list of sources too."""
    expect(met.failures.get(name), SOURCES[name])
    source = next(each for each in met.found["status"]["sources"] if each["name"] == name)
    assert (source["reason"], source["documents"]) == (SOURCES[name].reason, 0)
    assert source["pendingSince"]


@pytest.mark.parametrize("document", FILES)
def test_a_document_that_is_no_good_fails_alone(met: Met, document: str) -> None:
    """With a reason; one that costs the process that reads it is read alone, and so are those that came with it."""
    expect(met.failures.get(document), FILES[document])


def test_the_live_index_is_not_touched_by_any_of_it(
    met: Met, cluster: Cluster, shared_namespace: str, weaviate: Weaviate, sdk: openai.OpenAI
) -> None:
    """What was indexed stays as it was and answers, what is good beside the bad is added; without the bad it is Ready."""
    status = met.found["status"]
    assert set(met.failures) == SOURCES.keys() | FILES.keys()
    assert (status["failed"], status["documents"]) == (len(SOURCES) + len(FILES), len(DOCUMENTS) + 2)
    assert status["collection"] == met.before["collection"]
    assert met.report["embedded"] == 2
    assert condition(met.found)["reason"] in {refused.reason for refused in SOURCES.values()} | {
        "DocumentsFailed"
    }
    assert condition(met.found, "Synced")["status"] == "False"
    store = f"{shared_namespace}.met"
    for document, question in (
        ("docs/zebra.md", "is the zebra purple"),
        ("docs/walrus.md", "who plays the trumpet"),
        ("files/good.md", "the volcano sleeps"),
    ):
        assert asking.find(sdk, store, question)[0] == document
    cluster.apply(manifests.index(shared_namespace, "met", "embedder", {"docs": manifests.inline(DOCUMENTS)}))
    healed = cluster.wait_ready(KIND, shared_namespace, "met", timeout=90)["status"]
    report = weaviate.report(healed["collection"])
    assert (report["embedded"], report["removed"]) == (0, 2)
