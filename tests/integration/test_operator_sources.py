# SPDX-License-Identifier: Apache-2.0
"""Sources of documents on real parts: a web site, a bucket, a database; synced by `lateen sync`."""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
from pydantic import SecretStr

from lateen_api import names, rag_index
from lateen_serving.rag import cursors
from lateen_serving.rag.cursor_store import WeaviateCursors
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.settings import ServingSettings
from stack import asking, manifests, sources, web_server
from stack.cluster import Cluster
from stack.local import LocalStack, lateen
from stack.parts import Weaviate

KIND = "ragindexes.lateen.dev"
ZEBRA = "# Zebra\nThe zebra is purple on monday."
ORANGE = "# Zebra\nThe zebra is orange now."
WALRUS = "# Walrus\nThe walrus plays the trumpet."


def built(cluster: Cluster, namespace: str, name: str, source: dict[str, Any]) -> dict[str, Any]:
    """An index of one source `docs` that is Ready; its status."""
    cluster.apply(manifests.index(namespace, name, "embedder", {"docs": source}))
    found: dict[str, Any] = cluster.wait_ready(KIND, namespace, name, timeout=120)["status"]
    return found


def synced(stack: LocalStack, namespace: str, name: str) -> dict[str, Any]:
    """The one source's status after `lateen sync --wait`."""
    done = lateen(
        "sync",
        f"rag/{name}",
        "-n",
        namespace,
        "--wait",
        "--timeout",
        "90",
        state=stack.state.root,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = stack.cluster.status(KIND, namespace, name)["sources"][0]
    return found


def test_a_web_site_is_crawled_and_followed(
    cluster: Cluster, shared_namespace: str, embedder: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """Its pages are found by their links; afterwards only a changed page is sent, and one that is gone leaves."""
    pages = {
        "/": '<a href="/zebra.md">Zebra</a> <a href="/walrus.md">Walrus</a> <a href="/secret.md">no</a>',
        "/robots.txt": "User-agent: *\nDisallow: /secret.md\n", "/zebra.md": ZEBRA, "/walrus.md": WALRUS, "/secret.md": "no",
    }  # fmt: skip
    with web_server.serving(pages) as site:
        source = {"http": {"urls": [f"{site.address}/"], "crawl": {"maxDepth": 1}, "include": ["**/*.md"]}}
        status = built(cluster, shared_namespace, "site", source)
        assert [(item["documents"], item["failed"]) for item in status["sources"]] == [(2, 0)]
        store = f"{shared_namespace}.site"
        assert asking.find(sdk, store, "zebra")[0] == f"docs/127.0.0.1:{site.port}/zebra.md"
        assert "/secret.md" not in site.sent
        site.sent.clear()
        site.pages["/zebra.md"] = ORANGE
        del site.pages["/walrus.md"]
        after = synced(stack, shared_namespace, "site")
    assert (after["documents"], after["changed"], after["removed"]) == (1, 1, 1)
    assert [path for path in site.sent if path != "/robots.txt"] == ["/zebra.md"]
    assert "orange" in asking.texts(sdk, store, "which colour has the zebra")


def test_a_bucket_is_read_with_its_secret(
    cluster: Cluster,
    shared_namespace: str,
    embedder: str,
    stack: LocalStack,
    sdk: openai.OpenAI,
    weaviate: Weaviate,
    tmp_path: Path,
) -> None:
    """Credentials come from the Secret, which nothing else shows; a changed object alone is embedded again."""
    keys = {"access_key_id": sources.KEY, "secret_access_key": sources.SECRET, "region": "us-east-1"}
    with sources.s3(tmp_path / "s3") as server:
        folder = server.folder / "papers" / "public"
        folder.mkdir(parents=True)
        (folder / "zebra.md").write_text(ZEBRA)
        (folder / "walrus.md").write_text(WALRUS)
        source = {"objectStore": {"uri": "s3://papers/public", "secretRef": {"name": "papers"}}}
        cluster.apply(manifests.index(shared_namespace, "papers", "embedder", {"docs": source}))
        cluster.wait_reason(KIND, shared_namespace, "papers", "ReferenceNotFound", timeout=60)
        place = {"endpoint": server.address, "allow_http": "true"}
        cluster.apply(manifests.secret(shared_namespace, "papers", keys | place))
        status = cluster.wait_ready(KIND, shared_namespace, "papers", timeout=120)["status"]
        assert asking.find(sdk, f"{shared_namespace}.papers", "zebra")[0] == "docs/zebra.md"
        (folder / "zebra.md").write_text(ORANGE)
        after = synced(stack, shared_namespace, "papers")
    assert (after["documents"], after["changed"]) == (2, 1)
    assert weaviate.report(status["collection"])["embedded"] == 1
    assert sources.SECRET not in str(cluster.get(KIND, shared_namespace, "papers"))


def test_rows_of_a_database_are_documents(
    cluster: Cluster, shared_namespace: str, embedder: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """One per row; after a change and a deletion the index has what the table has."""
    file = stack.volume("databases") / f"{shared_namespace}.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE pages (id TEXT, text TEXT, updated INTEGER)")
        database.executemany("INSERT INTO pages VALUES (?, ?, 1)", [("zebra", ZEBRA), ("walrus", WALRUS)])
        database.commit()
        cluster.apply(manifests.secret(shared_namespace, "pages-db", {"url": f"sqlite:///{file}"}))
        source = {
            "sql": {
                "secretRef": {"name": "pages-db"},
                "query": "SELECT id, text, updated FROM pages",
                "updatedColumn": "updated",
                "format": "Markdown",
            }
        }
        built(cluster, shared_namespace, "rows", source)
        assert asking.find(sdk, f"{shared_namespace}.rows", "zebra")[0] == "docs/zebra.md"
        database.execute("UPDATE pages SET text = ?, updated = 2 WHERE id = 'zebra'", [ORANGE])
        database.execute("DELETE FROM pages WHERE id = 'walrus'")
        database.commit()
        after = synced(stack, shared_namespace, "rows")
    assert (after["documents"], after["changed"], after["removed"], after["cursor"]) == (1, 1, 1, "2")
    assert "orange" in asking.texts(sdk, f"{shared_namespace}.rows", "zebra")


def test_a_source_that_fails_leaves_the_others(
    cluster: Cluster, shared_namespace: str, embedder: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """Its documents stay, the other source is followed, and the status names the one that failed and since when."""
    namespace = shared_namespace
    cluster.apply(manifests.config_map(namespace, "both", {"walrus.md": WALRUS}))
    with web_server.serving({"/zebra.md": ZEBRA}) as site:
        two: dict[str, dict[str, Any]] = {
            "site": {"http": {"urls": [f"{site.address}/zebra.md"]}},
            "notes": {"configMap": {"name": "both"}},
        }
        cluster.apply(manifests.index(namespace, "both", "embedder", two))
        cluster.wait_ready(KIND, namespace, "both", timeout=120)
    cluster.apply(
        manifests.config_map(namespace, "both", {"heron.md": "# Heron\nA heron lives in the harbour."})
    )
    found = cluster.wait_reason(KIND, namespace, "both", "SourceUnavailable", timeout=90)["status"]
    site_status, notes = found["sources"]
    assert (site_status["documents"], site_status["reason"]) == (1, "SourceUnavailable")
    assert site_status["pendingSince"] == found["oldestUnindexedChange"]
    assert (notes["documents"], notes["changed"], notes["removed"]) == (1, 1, 1)
    assert asking.find(sdk, f"{namespace}.both", "zebra")


async def test_cursors_are_kept_beside_the_ledger(stack: LocalStack, weaviate: Weaviate) -> None:
    """Nothing at first, then what was written last, also a large text; the ledger's entries do not see it."""
    settings = ServingSettings(
        weaviate_url=f"http://127.0.0.1:{stack.ports.weaviate}",
        weaviate_grpc_port=stack.ports.weaviate_grpc,
        weaviate_api_key=SecretStr(stack.secrets.weaviate_key),
    )
    connection, name = Connection(settings), f"Cursors_test_{secrets.token_hex(4)}"
    store, kept = WeaviateStore(connection, name, rag_index.Store()), WeaviateCursors(connection, name)
    try:
        await store.ensure()
        assert await kept.read() == ""
        for text in ("one", "two", "x" * cursors.MAX_TEXT):
            await kept.write(text)
            assert await kept.read() == text
        assert await store.entries() == {}
    finally:
        await (await connection.client()).collections.delete([name, names.ledger_collection(name)])
        await connection.aclose()
