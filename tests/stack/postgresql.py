# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL on loopback, where the machine has one. Started by tests."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack.sources import free_port

PASSWORD = "correct-horse"
USER = "lateen"


@dataclass(frozen=True)
class Server:
    """One that runs."""

    port: int
    programs: Path

    @property
    def url(self) -> str:
        """How `USER` reaches the database `postgres`, without TLS."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def run(self, statement: str) -> None:
        """Execute statements as the owner of the database."""
        command: list[str | Path] = [
            self.programs / "psql",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            USER,
        ]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        subprocess.run(
            [*command, "-d", "postgres", "-c", statement], env=environment, check=True, capture_output=True
        )


def programs() -> Path | None:
    """Folder of PostgreSQL's programs; None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    return Path(other).resolve().parent if other else None


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A new server in an empty folder, which belongs to the user that runs it."""
    bin_folder = programs()
    assert bin_folder is not None, "there is no PostgreSQL on this machine"
    server = Server(free_port(), bin_folder)
    folder.mkdir(parents=True)
    (folder / "password").write_text(PASSWORD)
    account = _account()
    if account:  # the server refuses to run as root
        shutil.chown(folder, account)
        shutil.chown(folder / "password", account)
    data = folder / "data"
    initdb: list[str | Path] = [
        "initdb",
        "-D",
        data,
        "-U",
        USER,
        "--pwfile",
        folder / "password",
        "-A",
        "scram-sha-256",
        "--no-sync",
    ]
    _as(account, bin_folder, initdb)
    options = f"-c listen_addresses=127.0.0.1 -p {server.port} -k '' -c fsync=off"
    _as(account, bin_folder, ["pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
    try:
        yield server
    finally:
        _as(account, bin_folder, ["pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"])


def _account() -> str:
    return "nobody" if os.geteuid() == 0 else ""


def _as(account: str, folder: Path, command: Sequence[str | Path]) -> None:
    subprocess.run(
        [folder / command[0], *command[1:]],
        check=True,
        stdout=subprocess.DEVNULL,
        user=account or None,
        cwd="/",
    )
