# SPDX-License-Identifier: Apache-2.0
"""Reading a real PostgreSQL; needs no stack."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lateen_api.rag_sources import Source
from lateen_serving.rag import sources
from lateen_serving.rag.protocol import Cursor, Loaded, SourceFailure, mark
from lateen_serving.rag.sources import NOTHING, Surroundings
from lateen_serving.settings import ServingSettings
from stack import postgresql
from stack.postgresql import Server

pytestmark = pytest.mark.skipif(postgresql.programs() is None, reason="this machine has no PostgreSQL")
QUERY = "SELECT id, text, updated FROM articles WHERE text NOT LIKE '%draft%' -- all of them"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One with a table of 2,500 rows and a user who may not read another."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with postgresql.serving(Path(folder) / "postgresql") as running:
            running.run(
                "CREATE TABLE articles (id int PRIMARY KEY, text text, updated timestamptz);"
                "INSERT INTO articles SELECT n, 'row ' || n, '2026-01-01T00:00Z'::timestamptz + n * interval '1 s'"
                " FROM generate_series(1, 2500) n;"
                "CREATE ROLE reader LOGIN PASSWORD 'r'; CREATE TABLE hidden (id int, text text)"
            )
            yield running


async def load(server: Server, folder: Path, cursor: Cursor = NOTHING, url: str = "", **more: Any) -> Loaded:
    """The source `s`; `folder` is a new one."""
    place = folder / "secrets" / "team" / "db"
    place.mkdir(parents=True)
    (place / "url").write_text(url or server.url)
    settings = ServingSettings(secrets=folder / "secrets", source_hosts=[f"http://127.0.0.1:{server.port}"])
    around = Surroundings(settings, folder, folder / "scratch", 1000, "team")
    spec = {"secretRef": {"name": "db"}, "query": QUERY, "updatedColumn": "updated", **more}
    return await sources.load(Source.model_validate({"name": "s", "sql": spec}), around, cursor)


async def test_rows_are_read_and_followed(server: Server, tmp_path: Path) -> None:
    """All at first; then only the changed ones; deleted ones are gone."""
    first = await load(server, tmp_path / "1")
    assert (len(first.documents), first.position) == (2500, "2026-01-01T00:41:40+00:00")
    cursor = Cursor({}, {item.id: mark(item.uri, item.version) for item in first.documents})
    server.run(
        "UPDATE articles SET text = '100% new', updated = now() WHERE id = 7; DELETE FROM articles WHERE id = 8"
    )
    second = await load(server, tmp_path / "2", cursor)
    changed = [item for item in second.documents if not item.unchanged]
    assert [(item.id, await item.read()) for item in changed] == [("s/7.txt", b"100% new")]
    assert len(second.documents) == 2499
    assert changed[0].updated_at > "2026-01-02"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"query": "WITH x AS (DELETE FROM articles RETURNING *) SELECT * FROM x"}, "SourceRefused"),
        ({"query": "SELECT nextval('numbers') AS id, '' AS text, now() AS updated"}, "SourceRefused"),
        ({"query": "SELECT id, text, now() AS updated FROM nowhere"}, "SourceNotFound"),
        ({"query": "SELECT id, text, now() AS updated FROM articles, pg_sleep(9)", "timeoutSeconds": 1}, "SourceUnavailable"),
        ({"url": "postgresql://lateen:wrong@127.0.0.1:PORT/postgres?sslmode=disable"}, "SourceUnauthorized"),
        ({"url": "postgresql://lateen:correct-horse@127.0.0.1:PORT/none?sslmode=disable"}, "SourceNotFound"),
        ({"url": "postgresql://lateen:correct-horse@127.0.0.1:PORT/postgres"}, "SourceUnavailable"),
        ({"url": "postgresql://reader:r@127.0.0.1:PORT/postgres?sslmode=disable", "query": "SELECT id, text, 1 AS updated FROM hidden"},
         "SourceUnauthorized"),
    ],
    ids=["delete", "sequence", "table", "slow", "password", "database", "tls", "rights"],
)  # fmt: skip
async def test_failures_have_reasons(
    server: Server, tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    """Nothing is written, nothing takes for ever, and no password is told."""
    server.run("CREATE SEQUENCE IF NOT EXISTS numbers")
    given = {
        key: value.replace("PORT", str(server.port)) if key == "url" else value for key, value in more.items()
    }
    with pytest.raises(SourceFailure) as failure:
        await load(server, tmp_path, **given)
    assert failure.value.reason == reason
    assert postgresql.PASSWORD not in str(failure.value)
