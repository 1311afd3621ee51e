# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a stack starts and stops: a live table on a terminal, plain lines elsewhere.

The supervisor reports `Event`s; a detached one writes them as JSON lines, which the waiting `lateen up` shows.
"""

import os
import sys
import time
from collections.abc import Mapping
from typing import IO, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

Kind: TypeAlias = Literal[
    "waiting", "starting", "ready", "failed", "restarting", "note", "stopping", "up", "down"
]


class Event(BaseModel):
    """One thing that happened; `up` and `down` are about the whole stack and have no part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    part: str = ""
    text: str = ""
    log: tuple[str, ...] = ()
    """Last lines of the part's log, with a failure."""


class Screen(Protocol):
    """Where events go."""

    def show(self, event: Event) -> None:
        """Take note of one event."""
        ...

    def close(self) -> None:
        """The last event was shown."""
        ...


class Lines:
    """Plain lines with the seconds since the start; for logs, pipes and CI."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self.out = out or sys.stderr
        self.start = time.monotonic()

    def show(self, event: Event) -> None:
        """Print the event."""
        if event.kind == "waiting":
            return
        what = " ".join(filter(None, (event.part, event.kind if event.part else "", event.text)))
        print(f"[{time.monotonic() - self.start:5.1f}s] {what}", file=self.out, flush=True)
        for line in event.log:
            print(f"    {line}", file=self.out, flush=True)

    def close(self) -> None:
        """Nothing is held."""


class JsonLines:
    """Events for another process; silent once nobody reads."""

    def __init__(self, descriptor: int) -> None:
        self.out = os.fdopen(descriptor, "w")

    def show(self, event: Event) -> None:
        """Write the event as one line; the reader's end is not the stack's."""
        if self.out.closed:
            return
        try:
            self.out.write(event.model_dump_json() + "\n")
            self.out.flush()
        except BrokenPipeError:
            self.close()
        if event.kind == "up":
            self.close()

    def close(self) -> None:
        """Let the reader see the end."""
        try:
            self.out.close()
        except BrokenPipeError:
            return


class Both:
    """Two screens at once: a person's and a log."""

    def __init__(self, first: Screen, second: Screen) -> None:
        self.screens = (first, second)

    def show(self, event: Event) -> None:
        """Show the event on both."""
        for each in self.screens:
            each.show(event)

    def close(self) -> None:
        """Close both."""
        for each in self.screens:
            each.close()


class LiveTable:
    """A table that changes in place: one row per part, and the latest note below."""

    STYLE: ClassVar[Mapping[str, tuple[str, str]]] = {
        "ready": ("✓", "green"),
        "failed": ("✗", "red"),
        "waiting": ("·", "dim"),
        "stopping": ("■", "dim"),
    }

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.begun: dict[str, float] = {}
        self.rows: dict[str, tuple[Event, float]] = {}
        self.live = Live(
            get_renderable=self._table, console=self.console, refresh_per_second=8, transient=False
        )
        self.live.start()

    def show(self, event: Event) -> None:
        """Change the row of the event's part, or print a line above the table."""
        if event.part and event.kind != "note":
            now = time.monotonic()
            begun = self.begun.setdefault(event.part, now) if event.kind != "waiting" else now
            self.rows[event.part] = (event, now - begun)
        else:
            self.live.console.print(Text(" ".join(filter(None, (event.part, event.text)))))
        if event.kind == "failed":
            self.live.console.print(Text(f"{event.part} failed: {event.text}", style="red"))
        for line in event.log:
            self.live.console.print(Text(f"  {line}", style="dim"))
        if event.kind == "down":
            self.rows.clear()
        self.live.refresh()

    def _row(self, event: Event, took: float) -> tuple[RenderableType, ...]:
        if event.kind in ("starting", "restarting"):
            seconds = time.monotonic() - self.begun[event.part]
            return (
                Spinner("dots"),
                event.part,
                Text(f"{event.kind} {seconds:.0f}s {event.text}", style="yellow"),
            )
        sign, style = self.STYLE.get(event.kind, ("·", ""))
        after = f"{took:.1f}s " if event.kind == "ready" else ""
        return Text(sign, style=style), event.part, Text(f"{event.kind} {after}{event.text}", style=style)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        for event, took in self.rows.values():
            table.add_row(*self._row(event, took))
        return Group(table)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self.live.stop()


def screen() -> Screen:
    """What fits standard error."""
    return LiveTable() if sys.stderr.isatty() else Lines()
