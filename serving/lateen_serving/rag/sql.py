# SPDX-License-Identifier: Apache-2.0
"""Reads the rows of an `sql` source as documents. Called by `sources.py`.

First ids and the column that says what has changed, of all rows; then, whole, the rows that are not indexed as they are.
So rows that were deleted are noticed, and also those that were committed late with an early time.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, exc

from lateen_api.rag_sources import SqlSource
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.rag import databases, files
from lateen_serving.rag.databases import Database
from lateen_serving.rag.protocol import Cursor, Document, Loaded, SourceFailure

_ROWS = 200
"""Rows that are fetched at once, and asked for by their ids."""

_TEXT_BYTES = 64 * 2**20
"""Of the texts that are fetched at once, unless one alone has more."""

_KEY_BYTES = 2048
"""Longest id and value of the column that says what has changed; longer ones are fetched as NULL."""

_MOST_ASKED = 2000
"""Changed rows up to which only they are asked for: with more, all are read and the others passed over."""

_SUFFIXES = {"Markdown": ".md", "Text": ".txt"}


@dataclass(frozen=True)
class Place:
    """Where rows go and how the database may be reached."""

    folder: Path
    """Texts are written here; created."""

    largest: int
    """Bytes; of longer texts only that they are too long is kept."""

    roots: Sequence[Path]
    allowed: Allowed
    credentials: Credentials


async def load(name: str, source: SqlSource, place: Place, cursor: Cursor) -> Loaded:
    """The rows of the source called `name`; raises SourceFailure."""
    opened = await databases.database(place.credentials, place.roots, place.allowed, source.timeout_seconds)
    await asyncio.to_thread(place.folder.mkdir, parents=True)
    return await asyncio.to_thread(_Reading(name, source, place, cursor, opened).run)


@dataclass
class _Reading:
    """One reading; runs in a thread."""

    name: str
    source: SqlSource
    place: Place
    cursor: Cursor
    database: Database
    changed: dict[str, Any] = field(default_factory=dict)
    """By document id, of rows that have to be read whole: the row's id as the database has it."""
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By document id: version and time of the last change."""
    taken: dict[str, Document] = field(default_factory=dict)
    bytes: int = 0

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.source.timeout_seconds

    def run(self) -> Loaded:
        try:
            with self.database.engine.connect() as connection:
                position = self._survey(connection)
                for rows in self._batches(connection):
                    for row in rows:
                        self._take(row)
        except exc.SQLAlchemyError as error:
            raise databases.failure(error, self.place.credentials.hint) from None
        finally:
            self.database.engine.dispose()
        return Loaded(list(self.taken.values()), position=position)

    def _survey(self, connection: Connection) -> str:
        """Find out which rows there are; the latest value of the column that says what has changed."""
        updated = self.source.updated_column
        latest = None
        for rows in self._rows(connection, [self.source.id_column, *([updated] if updated else [])]):
            for row in rows:
                self._note(row[0], row[1] if updated else None)
                latest = _later(latest, row[1] if updated else None)
        return "" if latest is None else _text(latest)

    def _note(self, identity: Any, updated: Any) -> None:
        if identity is None:
            raise SourceFailure(
                "SourceRefused",
                f"a row has no {self.source.id_column}, or one of more than {_KEY_BYTES} bytes",
            )
        key = self._key(identity)
        if key in self.versions:
            raise SourceFailure(
                "SourceRefused",
                f"two rows have one {self.source.id_column}; select a column that tells them apart",
            )
        version = "" if updated is None else f"{self.database.identity} {_text(updated)}"
        self.versions[key] = version, _moment(updated)
        if len(self.versions) > self.source.max_rows:
            raise SourceFailure("TooLarge", f"the query has more than maxRows = {self.source.max_rows} rows")
        if self.cursor.knows(key, self._uri(key), version):
            self.taken[key] = self._document(key, 0, unchanged=True)
        else:
            self.changed[key] = identity

    def _batches(self, connection: Connection) -> Iterator[Sequence[Any]]:
        """Rows with id, text and title, of which not all need to have changed."""
        largest = self.place.largest + 1
        columns = [self.source.id_column, *filter(None, [self.source.text_column, self.source.title_column])]
        wanted = list(self.changed.values())
        if len(wanted) > _MOST_ASKED:
            yield from self._rows(connection, columns, cut=largest)
            return
        for start in range(0, len(wanted), _ROWS):
            yield from self._rows(connection, columns, cut=largest, ids=wanted[start : start + _ROWS])

    def _rows(
        self, connection: Connection, columns: Sequence[str], *, cut: int = 0, ids: Sequence[Any] = ()
    ) -> Iterator[Sequence[Any]]:
        """Columns of the query's rows: the id and, cut after `cut` characters, texts; if it is 0, other short ones."""
        quoted = [connection.dialect.identifier_preparer.quote(name) for name in columns]
        short = partial(_short, connection.dialect.name)
        named = [
            short(quoted[0]),
            *(f"substr(CAST({name} AS TEXT), 1, {cut})" if cut else short(name) for name in quoted[1:]),
        ]
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        query = self.source.query.strip()
        where = f" WHERE {quoted[0]} IN ({', '.join([mark] * len(ids))})" if ids else ""
        if mark == "%s":
            query = query.replace("%", "%%")
        # On lines of its own: the query may end with a comment.
        statement = f"SELECT {', '.join(named)} FROM (\n{query}\n) AS lateen_rows{where}"  # noqa: S608 - in a transaction that can't write
        options = {"stream_results": True}
        at_once = max(1, min(_ROWS, _TEXT_BYTES // cut)) if cut else _ROWS
        with connection.exec_driver_sql(statement, tuple(ids) or None, execution_options=options) as found:
            # Not by the execution option of this name, which counts for no statement that is text.
            for rows in found.yield_per(at_once).partitions():
                if time.monotonic() > self._end:
                    raise SourceFailure(
                        "SourceUnavailable", f"not read within timeoutSeconds = {self.source.timeout_seconds}"
                    )
                yield rows

    def _take(self, row: Sequence[Any]) -> None:
        key = self._key(row[0])
        if row[0] is None or key not in self.changed:
            return
        text, title = str(row[1] or ""), str(row[2] or "") if len(row) > 2 else ""
        head = (f"# {title}\n\n" if self.source.format == "Markdown" else f"{title}\n\n") if title else ""
        data = (head + text).encode("utf-8", "replace")
        self.bytes += len(data)
        if self.bytes > files.MAX_BYTES:
            raise SourceFailure("TooLarge", f"the rows have more than {files.MAX_BYTES >> 30} GiB")
        (self.place.folder / _hash(key)).write_bytes(data[: self.place.largest + 1])
        self.taken[key] = self._document(key, len(data))

    def _document(self, key: str, size: int, *, unchanged: bool = False) -> Document:
        path = key.removeprefix(f"{self.name}/")
        version, moment = self.versions[key]
        read = partial(files.read, files.File(path, size, str(self.place.folder / _hash(key))))
        return Document(
            key,
            self.name,
            path,
            self._uri(key),
            size,
            read,
            version=version,
            unchanged=unchanged,
            updated_at=moment,
        )

    def _key(self, identity: Any) -> str:
        text = "".join(letter if letter.isprintable() else "?" for letter in str(identity))[:512]
        return f"{self.name}/{text}{_SUFFIXES[self.source.format]}"

    def _uri(self, key: str) -> str:
        return f"sql:{key}"


def _short(dialect: str, name: str) -> str:
    """The column, NULL where its value is too long; of its own type."""
    size = f"length(CAST({name} AS BLOB))" if dialect == "sqlite" else f"octet_length(CAST({name} AS TEXT))"
    return f"CASE WHEN {size} <= {_KEY_BYTES} THEN {name} END"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _moment(value: Any) -> str:
    if not isinstance(value, datetime):
        return ""
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except OverflowError:  # in UTC it is beyond the year 9999
        return ""


def _later(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    try:
        return max(one, other)
    except TypeError:  # SQLite knows no types of columns
        return max(str(one), str(other))
