# SPDX-License-Identifier: Apache-2.0
"""The state directory of one stack: what lies where, and the two files that describe it.

`stack.json` (ports and secrets) outlives a stop; `run.json` (processes) exists while something runs. Every
command starts here.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from lateen_cli.credentials import Secrets
from lateen_cli.ports import Ports

MARKER = "LATEEN_STACK"
"""Environment variable that every process of a stack inherits; its value is the stack's id."""

DEFAULT = Path("~/.lateen")

Phase: TypeAlias = Literal["starting", "ready", "stopping"]
Model = TypeVar("Model", bound=BaseModel)


class Unusable(Exception):
    """A state directory, a file in it or a program that cannot be used; the message says why and what to do."""


class Stack(BaseModel):
    """`stack.json`: what a later start reuses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    ports: Ports
    secrets: Secrets


class Process(BaseModel):
    """One process, told from a later one with the same pid by its start time (seconds since the epoch)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    created: float


class PartRecord(Process):
    """The process of one part and how it fares."""

    ready: bool = False
    restarts: int = 0
    ports: dict[str, int] = {}


class Run(BaseModel):
    """`run.json`: the supervisor and its parts, as the supervisor sees them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase
    supervisor: Process
    parts: dict[str, PartRecord] = {}


@dataclass(frozen=True)
class StateDir:
    """Paths below one state directory; `root` is absolute and without links."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> "StateDir":
        """The state directory `path`, which need not exist."""
        return cls(path.expanduser().resolve())

    @classmethod
    def at_default(cls) -> "StateDir":
        """The state directory where none is named."""
        return cls.at(DEFAULT)

    @property
    def stack_id(self) -> str:
        """What tells this stack's processes from those of others."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    @property
    def runtime(self) -> Path:
        """Sockets and Ray's files; gone after a stop. Short: HAProxy takes 97 bytes for a socket's path."""
        return Path("/tmp") / f"lateen-{self.stack_id}"  # noqa: S108  # created with mode 0700 and checked

    @property
    def volumes(self) -> Path:
        """Folder in which claim `c` is the folder `c`."""
        return self.root / "volumes"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def secrets(self) -> Path:
        """Secrets that specs refer to, as files for Ray's processes; written by the operator."""
        return self.root / "secrets"

    @property
    def programs(self) -> Path:
        """Links to the programs that `lateen env` puts on PATH."""
        return self.root / "bin"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def stack_file(self) -> Path:
        """Ports and secrets."""
        return self.root / "stack.json"

    @property
    def run_file(self) -> Path:
        """What runs."""
        return self.root / "run.json"

    def cache(self, user: str) -> Path:
        """What one user's kubectl remembers of the API; by default that is kept by port, which stacks share."""
        return self.root / "cache" / user

    def log(self, part: str) -> Path:
        """Log of one part."""
        return self.root / "logs" / f"{part}.log"

    def create(self) -> None:
        """Make the folders; only their owner may enter. Unusable where that is impossible."""
        try:
            for folder in (
                self.root,
                self.root / "logs",
                self.pki,
                self.programs,
                self.volumes,
                self.secrets,
                self.runtime,
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.root, self.runtime):
                self._close(folder)
        except OSError as error:
            raise Unusable(f"The state directory {self.root} cannot be used: {error}") from error

    def _close(self, folder: Path) -> None:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise Unusable(f"{folder} is not a folder of this user; remove it and start again.")
        folder.chmod(0o700)

    def stack(self) -> Stack | None:
        """What the last start remembered; None before the first one or where the format is another."""
        return _read(self.stack_file, Stack)

    def run(self) -> Run | None:
        """What the supervisor wrote last; it may be dead since."""
        return _read(self.run_file, Run)

    def lock(self) -> int | None:
        """The supervisor's exclusive lock as a descriptor, held until the process ends; None: another holds it."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor


def _read(path: Path, model: type[Model]) -> Model | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Unusable(
            f"{path} is damaged or of another version; remove it and start again. ({error})"
        ) from error


def write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replace a file in one step; at no moment is it readable by more than `mode` says."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(name).chmod(mode)
    Path(name).replace(path)
