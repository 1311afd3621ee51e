# SPDX-License-Identifier: Apache-2.0
"""What `lateen status` says: parts and resources as plain values, and their tables.

`gather` asks the system; everything else is a pure function of its answer.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType
from rich.table import Table

from lateen_cli import processes
from lateen_cli.state import Run, StateDir

Health: TypeAlias = Literal["starting", "ready", "stopping", "unsupervised", "down"]


class PartView(BaseModel):
    """One part now; memory in bytes, uptime in seconds."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["ready", "starting", "ended"]
    pid: int
    memory: int
    uptime: float
    restarts: int
    ports: dict[str, int]


class ResourceView(BaseModel):
    """One resource and its condition `Ready`."""

    model_config = ConfigDict(frozen=True)

    kind: str
    namespace: str
    name: str
    ready: str
    reason: str
    message: str


class Overview(BaseModel):
    """All of it; also the answer of `lateen status --output json`."""

    model_config = ConfigDict(frozen=True)

    state_dir: str
    health: Health
    parts: tuple[PartView, ...] = ()
    resources: tuple[ResourceView, ...] = ()
    problem: str = ""
    """Why the resources could not be read."""


def gather(state: StateDir) -> Overview:
    """The processes of a stack, without its resources."""
    run = state.run()
    if run is None or processes.alive(run.supervisor) is None:
        left = bool(processes.belonging(state.stack_id))
        health: Health = "unsupervised" if left else "down"
    else:
        health = run.phase
    parts = _parts(run) if run and health != "down" else ()
    return Overview(state_dir=str(state.root), health=health, parts=parts)


def _parts(run: Run) -> tuple[PartView, ...]:
    views = []
    for name, record in run.parts.items():
        process = processes.alive(record)
        views.append(
            PartView(
                name=name,
                state="ended" if process is None else "ready" if record.ready else "starting",
                pid=record.pid,
                memory=processes.memory(process) if process else 0,
                uptime=time.time() - record.created if process else 0.0,
                restarts=record.restarts,
                ports=record.ports,
            )
        )
    return tuple(views)


def resource(item: Mapping[str, Any]) -> ResourceView:
    """A resource as kubectl prints it; without a condition `Ready` its state is Unknown."""
    conditions = item.get("status", {}).get("conditions", [])
    found: Mapping[str, str] = next((each for each in conditions if each.get("type") == "Ready"), {})
    metadata = item["metadata"]
    return ResourceView(
        kind=item["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        ready=found.get("status", "Unknown"),
        reason=found.get("reason", ""),
        message=found.get("message", ""),
    )


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds for people: the two largest units."""
    whole = int(seconds)
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            return f"{whole // length}{unit}{whole % length // part}{smaller}"
    return f"{whole}s"


def tables(overview: Overview) -> Iterable[RenderableType]:
    """What is printed, piece by piece."""
    yield f"{overview.state_dir}: {overview.health}"
    if overview.parts:
        table = Table(
            "PART", "STATE", "PID", "MEMORY", "UPTIME", "RESTARTS", "PORTS", box=None, pad_edge=False
        )
        for part in overview.parts:
            ports = " ".join(f"{name}:{port}" for name, port in part.ports.items())
            figures = (str(part.pid), size(part.memory), duration(part.uptime), str(part.restarts))
            table.add_row(part.name, part.state, *figures, ports)
        yield table
    if overview.resources:
        table = Table("KIND", "NAMESPACE", "NAME", "READY", "REASON", "MESSAGE", box=None, pad_edge=False)
        for each in overview.resources:
            table.add_row(each.kind, each.namespace, each.name, each.ready, each.reason, each.message)
        yield table
    if overview.problem:
        yield f"The resources cannot be read: {overview.problem}"
