# SPDX-License-Identifier: Apache-2.0
"""What a part is: one process tree with its command line, environment, readiness and place in the order.

Each module beside this one describes one part as a pure function of a `Site`; the supervisor runs them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lateen_cli.credentials import Pki, Secrets
from lateen_cli.ports import Ports
from lateen_cli.probes import Probe
from lateen_cli.state import MARKER, StateDir

FOREIGN = ("RAY_", "LATEEN_", "ETCD_", "KUBE", "SERVE_")
"""Prefixes of variables that belong to some other stack of the user and would change ours."""

SLOWING = frozenset({"PYTHONDONTWRITEBYTECODE"})
"""Variables that are left out too. Without kept bytecode every replica compiles torch and transformers anew, and takes
twice as long to start."""

WANTED = ("LATEEN_OPERATOR_", "LATEEN_SOURCE_HOSTS")
"""Beginnings of settings that a user may give to `lateen up`: the operator's, and which private hosts sources may name."""


@dataclass(frozen=True)
class Site:
    """Everything the parts' descriptions depend on."""

    state: StateDir
    ports: Ports
    secrets: Secrets
    pki: Pki
    tools: Mapping[str, Path]
    cache: Path
    """What stacks share: models from a hub."""
    cores: int
    inherited: Mapping[str, str]

    def environment(self, **more: str) -> dict[str, str]:
        """The user's environment without what would interfere, with the stack's marker and `more`."""
        kept = {
            name: value
            for name, value in self.inherited.items()
            if name.startswith(WANTED) or not (name.startswith(FOREIGN) or name in SLOWING)
        }
        for name in ("NO_PROXY", "no_proxy"):
            kept[name] = ",".join(filter(None, (kept.get(name), "127.0.0.1", "localhost")))
        return {**kept, **more, MARKER: self.state.stack_id}

    def bare(self, **more: str) -> dict[str, str]:
        """Only what a self-contained program needs, and `more`."""
        kept = {
            name: self.inherited[name] for name in ("PATH", "HOME", "TMPDIR", "TZ") if name in self.inherited
        }
        return {**kept, **more, MARKER: self.state.stack_id}

    def volume(self, name: str) -> Path:
        """Folder with a part's own data."""
        return self.state.root / name


@dataclass(frozen=True)
class Part:
    """One part of the stack."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    probe: Probe
    ports: Mapping[str, int]
    needs: frozenset[str] = frozenset()
    """Names of parts and steps that must be ready first."""
    patience: float = 180.0
    """Seconds until a start without readiness counts as failed."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    tries: int = 1
    """How often a start may fail before it counts as failed."""
    restarts: int = 0
    """How often in a row it is started again after it ended by itself; 0: its end stops the stack."""
    steady: float = 30.0
    """Seconds of service after which an end is the first in a row again."""
