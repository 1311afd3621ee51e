# SPDX-License-Identifier: Apache-2.0
"""Opens the database of an `sql` source so that it can only be read. Called by `sql.py`.

Of SQLite a file below an allowed root, under an authorizer that knows nothing but SELECT; of PostgreSQL a server whose
address was checked, in transactions that can't write.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine, exc
from sqlalchemy.engine import URL, Engine, make_url

from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.rag.protocol import SourceFailure

_CONNECT_SECONDS = 10
_NO_FILE = "/dev/null/none"
"""A path where there can't be a file: one that exists, /dev/null too, libpq would read as a certificate, and fail."""

_STEPS = 20_000
"""Instructions of SQLite between two looks at the clock."""

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_MAX_VALUE = 256 * 2**20
_SECURE = ("require", "verify-ca", "verify-full")
_PASSWORD = ("password authentication failed", "no password supplied", "no pg_hba.conf entry", "role ")
_DENIED = {"42501", "28P01", "28000"}
_MISSING = {"42P01", "42703", "3D000"}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_GONE = {"57014", "57P01", "57P02", "57P03", "53300", "53200"}


@dataclass(frozen=True)
class Database:
    """One that may be read."""

    engine: Engine
    identity: str
    """The same for the same database, whoever reads it."""


async def database(
    credentials: Credentials, roots: Sequence[Path], allowed: Allowed, seconds: int
) -> Database:
    """The database of a Secret's `url`, not connected yet; raises SourceFailure.

    Every statement ends after `seconds`.
    """
    url = _url(credentials)
    if url.get_backend_name() == "sqlite":
        path = await asyncio.to_thread(_file, url, roots)
        return Database(_sqlite(path, seconds), _identity(f"sqlite:{path}"))
    if url.get_backend_name() == "postgresql":
        return await _postgresql(url, credentials, allowed, seconds)
    raise SourceFailure(
        "SourceRefused",
        f"Secret {credentials.name}: url is of no known database; known are postgresql, sqlite",
    )


def _identity(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _url(credentials: Credentials) -> URL:
    text = credentials.get("url")
    if text is None:
        raise SourceFailure("SourceUnauthorized", f"Secret {credentials.name} has no key url")
    try:
        return make_url(text)
    except (exc.ArgumentError, ValueError):
        raise SourceFailure(
            "SourceRefused",
            f"Secret {credentials.name}: url is not one such as postgresql://user:password@host/database",
        ) from None


def _file(url: URL, roots: Sequence[Path]) -> Path:
    path = Path(url.database or "")
    if not path.is_absolute() or url.host or url.query:
        raise SourceFailure("SourceRefused", "a SQLite url is sqlite:////path, without anything else")
    real = path.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise SourceFailure(
            "SourceRefused",
            "the SQLite file is not below a folder the administrator allows (LATEEN_FILE_ROOTS)",
        )
    if not real.is_file():
        raise SourceFailure("SourceNotFound", f"there is no file {path.name}")
    return real


def _sqlite(path: Path, seconds: int) -> Engine:
    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_CONNECT_SECONDS)
        end = time.monotonic() + seconds
        made.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
        made.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        made.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS)
        made.set_authorizer(_only_reading)
        return made

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _only_reading(action: int, name: str | None, value: str | None, *_: str | None) -> int:
    # SQLAlchemy asks each new database for this setting.
    asks = action == sqlite3.SQLITE_PRAGMA and name == "read_uncommitted" and value is None
    return sqlite3.SQLITE_OK if asks or action in _READING else sqlite3.SQLITE_DENY


async def _postgresql(url: URL, credentials: Credentials, allowed: Allowed, seconds: int) -> Database:
    host, port = url.host or "", url.port or 5432
    mode = str(url.query.get("sslmode", "require"))
    if not host or "," in host or host.startswith("/") or url.query.keys() - {"sslmode"}:
        raise SourceFailure(
            "SourceRefused", f"Secret {credentials.name}: url names one host, and no option but sslmode"
        )
    if mode not in _SECURE and not allowed.plain(host, port):
        raise SourceFailure(
            "SourceRefused",
            f"sslmode={mode} is refused unless the administrator allows http://{host}:{port} (LATEEN_SOURCE_HOSTS)",
        )
    try:
        first, *_ = await addresses.resolve(host, port, allowed)
    except addresses.Forbidden as error:
        raise SourceFailure("SourceRefused", str(error)) from None
    except addresses.Unresolved as error:
        raise SourceFailure("SourceUnavailable", str(error)) from None
    arguments = {
        "hostaddr": str(first),  # the address that was checked; the name stays for TLS
        "sslmode": mode,
        "connect_timeout": _CONNECT_SECONDS,
        # Without these libpq takes what the node has, from its environment and its home: none of it is the Secret's.
        "password": url.password or "",
        "passfile": "/dev/null",
        "sslcert": _NO_FILE,
        "sslkey": _NO_FILE,
        "keepalives_idle": 30,
        "tcp_user_timeout": 60_000,
        "options": f"-c default_transaction_read_only=on -c statement_timeout={seconds * 1000}",
    }
    plain = url.set(drivername="postgresql+psycopg", query={}, port=port)
    return Database(_engine(plain, arguments), _identity(f"postgresql:{host}:{port}/{url.database}"))


def _engine(url: URL, arguments: dict[str, Any]) -> Engine:
    try:
        return create_engine(
            url,
            connect_args=arguments,
            poolclass=NullPool,
            hide_parameters=True,
            execution_options={"postgresql_readonly": True},
        )
    except ImportError:
        raise SourceFailure(
            "SourceRefused", "the Ray nodes have no driver for PostgreSQL: install lateen[postgresql] there"
        ) from None


def failure(error: exc.SQLAlchemyError, hint: str) -> SourceFailure:
    """The typed failure for what the database said; without the query's values and without the url."""
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    state = getattr(original, "sqlstate", None) or ""
    text = str(original or error).strip().splitlines()
    said = (text or [type(error).__name__])[0][:200]
    lower = " ".join(text).lower()
    if state in _DENIED or (not state and any(sign in lower for sign in _PASSWORD)):
        return SourceFailure("SourceUnauthorized", f"the database refuses; {hint}: {said}")
    if state in _MISSING or "no such " in lower or ("database " in lower and "does not exist" in lower):
        return SourceFailure("SourceNotFound", f"the query names what is not there: {said}")
    if state in _GONE or "interrupted" in lower:
        return SourceFailure(
            "SourceUnavailable", f"the query did not end within timeoutSeconds, or was ended: {said}"
        )
    code = getattr(original, "sqlite_errorcode", None)
    heals = isinstance(error, exc.OperationalError) and not state if code is None else code & 0xFF in _BUSY
    if heals:
        return SourceFailure("SourceUnavailable", f"the database can't be read now: {said}")
    return SourceFailure("SourceRefused", f"the query can't be run: {said}")
