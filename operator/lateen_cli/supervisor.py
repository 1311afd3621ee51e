# SPDX-License-Identifier: Apache-2.0
"""Starts the parts of a stack, keeps them, and ends every process of theirs.

Parts start as soon as what they need is ready. A part that ends by itself is started again as often as its
description allows (the operator, which keeps no state, and Weaviate, which keeps all of its on disk); the end of any
other ends the whole stack, because what depends on it would only fail more quietly. One `Supervisor` lives for one
start, in `lateen up`.
"""

import asyncio
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from lateen_cli import probes, processes
from lateen_cli.parts.part import Part
from lateen_cli.screen import Event, Screen
from lateen_cli.state import PartRecord, Phase, Process, Run, StateDir, write

LOG_LINES = 20
RESTART_PAUSE = 1.0


class PartFailed(Exception):
    """A part, or a step, that did not become ready or ended by itself."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part} {reason}")
        self.part = part
        self.reason = reason


class Stopped(Exception):
    """Somebody asked for the end."""


@dataclass(frozen=True)
class Step:
    """Something done once between parts, such as installing the definitions of our kinds."""

    name: str
    needs: frozenset[str]
    action: Callable[[], Awaitable[None]] = field(repr=False)


@dataclass
class Supervisor:
    """One start of one stack."""

    state: StateDir
    parts: Sequence[Part]
    steps: Sequence[Step]
    screen: Screen
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ready: dict[str, asyncio.Event] = field(default_factory=dict)
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    records: dict[str, PartRecord] = field(default_factory=dict)
    phase: Phase = "starting"
    identity: Process = field(default_factory=lambda: processes.identify(os.getpid()))

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Start everything, call `on_ready`, keep it until asked to stop; nothing is left when this returns.

        Raises PartFailed where a part made the stack end.
        """
        self.ready = {name: asyncio.Event() for name in self._names()}
        self._listen()
        self._record()
        failure: PartFailed | None = None
        try:
            await self._keep_all(on_ready)
        except* Stopped:
            self.screen.show(Event(kind="note", text="Stopping."))
        except* PartFailed as failures:
            failure = _first(failures)
        finally:
            if failure:
                self._tell(failure)
            await self._end()
        if failure:
            raise failure

    async def _keep_all(self, on_ready: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_stop())
            for part in self.parts:
                group.create_task(self._keep(part))
            for step in self.steps:
                group.create_task(self._take(step))
            group.create_task(self._announce(on_ready))

    def _names(self) -> list[str]:
        return [*(part.name for part in self.parts), *(step.name for step in self.steps)]

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop.set)

    async def _until_stop(self) -> None:
        await self.stop.wait()
        raise Stopped

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        for event in self.ready.values():
            await event.wait()
        self.phase = "ready"
        self._record()
        on_ready()

    async def _take(self, step: Step) -> None:
        """One step, after what it needs."""
        await self._needed(step)
        self.screen.show(Event(kind="starting", part=step.name))
        try:
            await step.action()
        except Exception as error:
            raise PartFailed(step.name, f"failed: {error}") from error
        self._is_ready(step.name)

    async def _needed(self, item: Part | Step) -> None:
        self.screen.show(Event(kind="waiting", part=item.name, text=f"for {', '.join(sorted(item.needs))}"))
        for name in item.needs:
            await self.ready[name].wait()

    async def _keep(self, part: Part) -> None:
        """One part for as long as the stack lives."""
        await self._needed(part)
        total = in_a_row = 0
        while True:
            reason, served = await self._live(part, total)
            if served >= part.steady:
                in_a_row = 0
            if in_a_row == part.restarts:
                raise PartFailed(part.name, reason)
            self.screen.show(Event(kind="restarting", part=part.name, text=reason))
            total, in_a_row = total + 1, in_a_row + 1
            await asyncio.sleep(RESTART_PAUSE * 2 ** (in_a_row - 1))

    async def _live(self, part: Part, restarts: int) -> tuple[str, float]:
        """Start a part and wait for its end: what ended it, and after how many seconds of service.

        Raises PartFailed where its first start fails, or a later one hangs.
        """
        try:
            process = await self._bring(part, restarts)
        except PartFailed as failure:
            if not restarts or self.running[part.name].returncode is None:
                raise
            return (
                failure.reason,
                0.0,
            )  # an end as any other: whatever killed it may do so again before it is ready
        self._is_ready(part.name)
        since = time.monotonic()
        reason = f"ended by itself with {_outcome(await process.wait())}"
        return reason, time.monotonic() - since

    async def _bring(self, part: Part, restarts: int) -> asyncio.subprocess.Process:
        """Start a part until it is ready, as often as its description allows."""
        for left in reversed(range(part.tries)):
            process = await self._start(part, restarts)
            try:
                await self._await_ready(part, process)
            except PartFailed as failure:
                if not left:
                    raise
                self.screen.show(Event(kind="restarting", part=part.name, text=failure.reason))
                await asyncio.to_thread(processes.end, processes.session(process.pid))
            else:
                return process
        raise AssertionError(f"{part.name} has no tries")

    async def _start(self, part: Part, attempt: int) -> asyncio.subprocess.Process:
        self.screen.show(Event(kind="starting", part=part.name))
        with _log_file(self.state.log(part.name), fresh=not attempt) as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *part.command,
                    env=dict(part.environment),
                    cwd=self.state.root,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise PartFailed(part.name, f"cannot be started: {error}") from error
        self.running[part.name] = process
        started = _identity(process.pid)
        self.records[part.name] = PartRecord(**started, restarts=attempt, ports=dict(part.ports))
        self._record()
        return process

    async def _await_ready(self, part: Part, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + part.patience
        while process.returncode is None:
            if await probes.ready(part.probe):
                return
            if time.monotonic() > deadline:
                raise PartFailed(part.name, f"was not ready after {part.patience:.0f} s")
            await asyncio.sleep(probes.POLL)
        raise PartFailed(part.name, f"ended during its start with {_outcome(process.returncode)}")

    def _is_ready(self, name: str) -> None:
        if name in self.records:
            self.records[name] = self.records[name].model_copy(update={"ready": True})
            self._record()
        self.screen.show(Event(kind="ready", part=name))
        self.ready[name].set()

    def _record(self) -> None:
        run = Run(phase=self.phase, supervisor=self.identity, parts=self.records)
        write(self.state.run_file, run.model_dump_json(indent=2))

    def _tell(self, failure: PartFailed) -> None:
        """Show which part failed, and the end of its log."""
        log = self.state.log(failure.part)
        lines = tuple(tail(log)) if log.is_file() else ()
        text = f"{failure.reason}. Its log: {log}" if lines else failure.reason
        self.screen.show(Event(kind="failed", part=failure.part, text=text, log=lines))

    async def _end(self) -> None:
        """End the parts, each after those that need it, then whatever carries the stack's marker."""
        self.phase = "stopping"
        self._record()
        for round_ in rounds(self.parts):
            await asyncio.gather(*(self._end_part(part) for part in round_))
        ended = await asyncio.to_thread(clear, self.state)
        self.screen.show(Event(kind="down", text=f"Everything has ended ({ended} left-over processes)."))

    async def _end_part(self, part: Part) -> None:
        process = self.running.get(part.name)
        if process and process.returncode is None:
            self.screen.show(Event(kind="stopping", part=part.name))
            await _end_process(process, part.grace)


def rounds(parts: Sequence[Part]) -> list[list[Part]]:
    """In which order parts end: first those that no other needs."""
    left, order = list(parts), []
    while left:
        needed = frozenset[str]().union(*(part.needs for part in left))
        free = [part for part in left if part.name not in needed]
        order.append(free or left)
        left = [part for part in left if part not in order[-1]]
    return order


def clear(state: StateDir, grace: float = processes.GRACE) -> int:
    """End what is left of a stack and remove what only running processes need; how many processes there were."""
    ended = processes.sweep(state.stack_id, grace)
    _keep_logs(state.runtime / "ray" / "session_latest" / "logs", state.log("ray").with_suffix(""))
    shutil.rmtree(state.runtime, ignore_errors=True)
    state.run_file.unlink(missing_ok=True)
    return ended


def _keep_logs(found: Path, kept: Path) -> None:
    """The logs of Ray's own processes outlive its folder until the next stop."""
    if found.is_dir():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(found.resolve(), kept, symlinks=True, ignore_dangling_symlinks=True)


def tail(path: Path, lines: int = LOG_LINES) -> list[str]:
    """The last lines of a log."""
    with path.open(errors="replace") as log:
        return [line.rstrip() for line in deque(log, maxlen=lines)]


def _identity(pid: int) -> dict[str, Any]:
    """A child's pid and start time; time 0 where it has ended already."""
    try:
        return processes.identify(pid).model_dump()
    except psutil.NoSuchProcess:
        return {"pid": pid, "created": 0.0}


async def _end_process(process: asyncio.subprocess.Process, grace: float) -> None:
    """SIGTERM to a part's first process, SIGKILL to its whole group after `grace` seconds."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _log_file(path: Path, *, fresh: bool) -> IO[bytes]:
    """A part's log, open for appending; a fresh start moves the previous one aside."""
    if fresh and path.exists():
        path.replace(path.with_suffix(".log.1"))
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def _first(failures: BaseException) -> PartFailed:
    while isinstance(failures, BaseExceptionGroup):
        failures = failures.exceptions[0]
    assert isinstance(failures, PartFailed)
    return failures


def _outcome(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
