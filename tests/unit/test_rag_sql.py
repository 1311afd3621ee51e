# SPDX-License-Identifier: Apache-2.0
"""Databases as sources: SQLite as it is, PostgreSQL up to the connection."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import exc

from lateen_api.rag_sources import Source
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.rag import databases, files, sources, sql
from lateen_serving.rag.protocol import Cursor, Loaded, SourceFailure, mark
from lateen_serving.rag.sources import NOTHING, Surroundings
from lateen_serving.settings import ServingSettings

ROWS = [
    (1, "first", "A", "2026-01-01"),
    (2, "second", None, "2026-01-02"),
    (3, "third; 100%", "C", "2026-01-03"),
]
QUERY = "SELECT id, text, title, updated FROM articles WHERE text NOT LIKE '%draft%' -- all of them"
PUBLIC = "93.184.216.34"


class World:
    """A node with a database below its allowed root and a Secret with the url."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        self.file = folder / "roots" / "articles.db"
        self.file.parent.mkdir(parents=True)
        self.settings = ServingSettings(secrets=folder / "secrets", file_roots=[folder / "roots"])
        self.run("CREATE TABLE articles (id INTEGER, text TEXT, title TEXT, updated TEXT)")
        for row in ROWS:
            self.run("INSERT INTO articles VALUES (?, ?, ?, ?)", *row)
        self.secret(f"sqlite:///{self.file}")

    def run(self, statement: str, *values: Any) -> None:
        connection = sqlite3.connect(self.file)
        connection.execute(statement, values)
        connection.commit()
        connection.close()

    def secret(self, url: str) -> None:
        place = self.settings.secrets / "team" / "db"
        place.mkdir(parents=True, exist_ok=True)
        (place / "url").write_text(url)

    async def load(self, cursor: Cursor = NOTHING, **more: Any) -> Loaded:
        """The source `s`."""
        self.runs += 1
        around = Surroundings(self.settings, self.folder, self.folder / f"scratch{self.runs}", 1000, "team")
        spec = {"secretRef": {"name": "db"}, "query": QUERY, "updatedColumn": "updated", **more}
        return await sources.load(Source.model_validate({"name": "s", "sql": spec}), around, cursor)

    async def failure(self, **more: Any) -> SourceFailure:
        """The failure of a run."""
        with pytest.raises(SourceFailure) as caught:
            await self.load(**more)
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three rows."""
    return World(tmp_path)


def indexed(loaded: Loaded) -> Cursor:
    """The cursor when all that was loaded has been indexed."""
    return Cursor(loaded.state, {item.id: mark(item.uri, item.version) for item in loaded.documents})


async def test_rows_are_documents(world: World) -> None:
    """One per row, with its title above the text; the position is the latest change."""
    loaded = await world.load(titleColumn="title", format="Markdown")
    assert {item.id: await item.read() for item in loaded.documents} == {
        "s/1.md": b"# A\n\nfirst",
        "s/2.md": b"second",
        "s/3.md": b"# C\n\nthird; 100%",
    }
    assert (loaded.documents[0].uri, loaded.position) == ("sql:s/1.md", "2026-01-03")


@pytest.mark.parametrize("most", [0, 2000])
async def test_only_changed_rows_are_read_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Rows that were deleted are gone, also one with an early time is noticed; without the column all are read."""
    monkeypatch.setattr(sql, "_MOST_ASKED", most)
    cursor = indexed(await world.load())
    world.run("UPDATE articles SET text = 'new', updated = '2026-02-01' WHERE id = 2")
    world.run("DELETE FROM articles WHERE id = 1")
    world.run("INSERT INTO articles VALUES (9, 'late', '', '2025-01-01')")
    loaded = await world.load(cursor)
    assert {item.id for item in loaded.documents if item.unchanged} == {"s/3.txt"}
    changed = {item.id: await item.read() for item in loaded.documents if not item.unchanged}
    assert changed == {"s/2.txt": b"new", "s/9.txt": b"late"}
    anew = await world.load(cursor, updatedColumn=None)
    assert [item.unchanged for item in anew.documents] == [False] * 3


async def test_another_database_is_another_content(world: World) -> None:
    """The same ids and times in another file are not what is indexed."""
    cursor = indexed(await world.load())
    other = world.file.with_name("other.db")
    other.write_bytes(world.file.read_bytes())
    world.secret(f"sqlite:///{other}")
    assert not any(item.unchanged for item in (await world.load(cursor)).documents)


@pytest.mark.parametrize(
    "query",
    [
        "WITH x AS (SELECT 1) INSERT INTO articles SELECT 7, '', '', '' FROM x",
        "SELECT load_extension('/tmp/x') AS id, '' AS text, '' AS updated",
        "SELECT name AS id, '' AS text, '' AS updated FROM pragma_database_list",
        "SELECT 1) AS x, (SELECT 2",
        "select id, text from articles) as a join (select 1",
        "SELECT nonsense(",
    ],
)
async def test_nothing_but_one_select_runs(world: World, query: str) -> None:
    """Writing, extensions, pragmas and what closes the parenthesis are refused by the database; nothing changes."""
    before = world.file.read_bytes()
    assert (await world.failure(query=query)).reason in {"SourceRefused", "SourceNotFound"}
    assert world.file.read_bytes() == before


@pytest.mark.parametrize(
    "query", ["DELETE FROM articles", "SELECT 1; SELECT 2", "PRAGMA user_version", "ATTACH 'x' AS y"]
)
def test_other_statements_are_refused_by_the_schema(query: str) -> None:
    """One SELECT, without `;`."""
    with pytest.raises(ValidationError):
        Source.model_validate({"name": "s", "sql": {"secretRef": {"name": "db"}, "query": query}})


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"query": "SELECT id, text, updated FROM nowhere"}, "SourceNotFound"),
        ({"textColumn": "body"}, "SourceNotFound"), ({"maxRows": 2}, "TooLarge"),
        ({"query": "SELECT NULL AS id, text, updated FROM articles"}, "SourceRefused"),
        ({"query": "SELECT 1 AS id, text, updated FROM articles"}, "SourceRefused"),
        ({"secretRef": {"name": "none"}}, "SourceUnauthorized"),
    ],
)  # fmt: skip
async def test_failures_have_reasons(world: World, more: dict[str, Any], reason: str) -> None:
    """Missing tables and columns, too many rows, rows without an id or with the same, no Secret."""
    assert (await world.failure(**more)).reason == reason


async def test_time_and_size_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query without end is ended; of a text that is too long only that is known; all texts have a bound."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS id, '' AS text, '' AS updated FROM n"
    failure = await world.failure(query=endless, timeoutSeconds=1)
    assert (failure.reason, "timeoutSeconds" in str(failure)) == ("SourceUnavailable", True)
    world.run("UPDATE articles SET text = ? WHERE id = 1", "x" * 5000)
    assert max(item.size for item in (await world.load()).documents) == 1001
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    assert (await world.failure()).reason == "TooLarge"


async def test_no_more_is_fetched_at_once_than_the_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many rows as fit with texts of the greatest length, one at least."""
    sizes: list[int] = []
    batches = sql._Reading._batches

    def counted(self: Any, connection: Any) -> Any:
        for rows in batches(self, connection):
            sizes.append(len(rows))
            yield rows

    monkeypatch.setattr(sql._Reading, "_batches", counted)
    for most, expected in ((2100, [2, 1]), (100, [1, 1, 1]), (2**26, [3])):
        sizes.clear()
        monkeypatch.setattr(sql, "_TEXT_BYTES", most)
        assert len((await world.load()).documents) == 3
        assert sizes == expected


async def test_ids_and_times_have_a_bound(world: World) -> None:
    """A row with a long id is refused; one with a long value in the column of changes is read each time."""
    for value in ("9" * 2048, "9" * 2049, b"\0" * 2049):
        world.run("UPDATE articles SET updated = ? WHERE id = 1", value)
        loaded = await world.load(indexed(await world.load()))
        first = next(item for item in loaded.documents if item.id == "s/1.txt")
        assert (first.unchanged, loaded.position) == (
            (True, value) if len(value) == 2048 else (False, "2026-01-03")
        )
    query = "SELECT CASE id WHEN 1 THEN hex(zeroblob({})) ELSE id END AS id, text, updated FROM articles"
    assert len((await world.load(query=query.format(1024))).documents) == 3
    assert (await world.failure(query=query.format(1025))).reason == "SourceRefused"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:////etc/passwd", "SourceRefused"), ("sqlite:///relative.db", "SourceRefused"), ("sqlite://", "SourceRefused"),
        ("sqlite:///ROOT/../../x.db", "SourceRefused"), ("sqlite:///ROOT/none.db", "SourceNotFound"),
        ("sqlite:///ROOT/articles.db?vfs=x", "SourceRefused"), ("sqlite:///ROOT/text.db", "SourceRefused"),
        ("no url hunter2", "SourceRefused"), ("mysql://u:hunter2@93.184.216.34/d", "SourceRefused"),
        ("postgresql://u:hunter2@127.0.0.1/d", "SourceRefused"), ("postgresql://u:hunter2@2130706433/d", "SourceRefused"),
        ("postgresql://u:hunter2@[::ffff:10.0.0.1]/d", "SourceRefused"), ("postgresql:///d", "SourceRefused"),
        ("postgresql://u:hunter2@93.184.216.34,10.0.0.1/d", "SourceRefused"),
        ("postgresql://u:hunter2@93.184.216.34/d?hostaddr=10.0.0.1", "SourceRefused"),
        ("postgresql://u:hunter2@93.184.216.34/d?host=/tmp", "SourceRefused"),
        ("postgresql://u:hunter2@93.184.216.34/d?sslmode=disable", "SourceRefused"),
    ],
)  # fmt: skip
async def test_databases_that_must_not_be_opened(world: World, url: str, reason: str) -> None:
    """Files outside the roots, private hosts in every way to write them, options that lead elsewhere, no TLS."""
    (world.file.parent / "text.db").write_text("this is text, not a database" * 100)
    world.secret(url.replace("ROOT", str(world.file.parent)))
    failure = await world.failure()
    assert failure.reason == reason
    assert "hunter2" not in str(failure)


async def test_postgresql_is_connected_to_at_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """By TLS, read only, with bounded statements, as no one but the Secret's user; the name stays for the certificate."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(databases, "_engine", lambda url, arguments: seen.update(arguments, host=url.host))
    secret = Credentials("team/db", {"url": f"postgresql://u:p@{PUBLIC}/d"})
    await databases.database(secret, [], Allowed(), 7)
    assert (seen["hostaddr"], seen["host"], seen["sslmode"], seen["passfile"]) == (
        PUBLIC,
        PUBLIC,
        "require",
        "/dev/null",
    )
    assert seen["options"] == "-c default_transaction_read_only=on -c statement_timeout=7000"
    assert (seen["password"], seen["sslcert"], seen["sslkey"]) == ("p", "/dev/null/none", "/dev/null/none")
    plain = Credentials("team/db", {"url": "postgresql://u@127.0.0.1:5433/d?sslmode=disable"})
    await databases.database(plain, [], Allowed.of(["http://127.0.0.1:5433"]), 7)
    assert (seen["sslmode"], seen["password"]) == ("disable", "")


class Said(Exception):
    """What a driver raises."""

    def __init__(self, text: str, sqlstate: str | None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        ("connection failed: FATAL:  password authentication failed for user", None, "SourceUnauthorized"),
        ("permission denied for table x", "42501", "SourceUnauthorized"), ("no such relation", "42P01", "SourceNotFound"),
        ('connection failed: FATAL:  database "x" does not exist', None, "SourceNotFound"),
        ("connection timeout expired", None, "SourceUnavailable"), ("canceling statement", "57014", "SourceUnavailable"),
        ("cannot execute INSERT in a read-only transaction", "25006", "SourceRefused"),
        ("syntax error", "42601", "SourceRefused"),
    ],
)  # fmt: skip
def test_what_postgresql_says_has_a_reason(text: str, state: str | None, reason: str) -> None:
    """By its code, or by its words where a connection has none."""
    error = exc.OperationalError("SELECT hunter2", {}, Said(text, state))
    failure = databases.failure(error, "check Secret team/db")
    assert failure.reason == reason
    assert "hunter2" not in str(failure)
