# SPDX-License-Identifier: Apache-2.0
"""The supervisor with real processes: small HTTP servers stand for the parts, nothing else is needed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lateen_cli import processes, supervisor
from lateen_cli.parts.part import Part
from lateen_cli.ports import choose
from lateen_cli.probes import Probe
from lateen_cli.screen import Event
from lateen_cli.state import MARKER, StateDir
from lateen_cli.supervisor import PartFailed, Step, Supervisor

ESCAPING = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
os.execv(sys.executable, [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", sys.argv[1]])
"""
"""A part whose child makes a session of its own and outlives it, as HAProxy and jobs do."""


class Notes:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.changed = asyncio.Event()

    def show(self, event: Event) -> None:
        self.events.append(event)
        self.changed.set()

    def close(self) -> None:
        """Nothing is held."""

    async def until(self, kind: str, part: str, count: int = 1) -> None:
        """Wait for the `count`th such event."""
        while sum((event.kind, event.part) == (kind, part) for event in self.events) < count:
            self.changed.clear()
            await self.changed.wait()


class Bench:
    """A state directory, parts for it and a way to run them."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self.screen = Notes()
        chosen, self.guard = choose(None)
        self.free = iter(range(chosen.gateway, chosen.replicas))

    def part(self, name: str, *needs: str, script: str = ESCAPING, **more: int) -> Part:
        """A part that serves HTTP and has an escaping child, or runs `script`."""
        port = next(self.free)
        command = (sys.executable, "-c", script, str(port))
        environment = {**os.environ, MARKER: self.state.stack_id}
        return Part(name, command, environment, Probe(port, "/"), {"http": port}, frozenset(needs), **more)

    def supervisor(self, *parts: Part, steps: tuple[Step, ...] = ()) -> Supervisor:
        """A supervisor of these parts."""
        return Supervisor(self.state, parts, steps, self.screen)

    def left(self) -> list[psutil.Process]:
        """Processes of this stack."""
        return processes.belonging(self.state.stack_id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench; whatever happens, nothing of it stays."""
    state = StateDir.at(tmp_path)
    state.create()
    made = Bench(state)
    yield made
    made.guard.close()
    supervisor.clear(state)


async def test_everything_starts_in_order_and_nothing_is_left(bench: Bench) -> None:
    """Parts start after what they need; a stop ends them and the children that left their session."""
    taken: list[str] = []

    async def take() -> None:
        taken.append("step")

    last = bench.part("last", "step")
    held = bench.supervisor(last, bench.part("first"), steps=(Step("step", frozenset({"first"}), take),))
    seen: list[int] = []

    def on_ready() -> None:
        seen.append(len(bench.left()))
        held.stop.set()

    await held.run(on_ready)
    order = [event.part for event in bench.screen.events if event.kind == "ready"]
    assert order == ["first", "step", "last"]
    assert taken == ["step"]
    assert seen == [4]
    assert bench.left() == []
    assert not bench.state.run_file.exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('no licence'); raise SystemExit(3)", "exit code 3"),
        ("import signal; signal.pause()", "not ready after 1 s"),
    ],
)
async def test_a_part_that_does_not_start_ends_all(bench: Bench, script: str, reason: str) -> None:
    """The failure names the part and the reason, shows its log, and nothing stays."""
    broken = replace(bench.part("broken", script=script), patience=1.0)
    with pytest.raises(PartFailed, match=f"broken .*{reason}"):
        await bench.supervisor(bench.part("fine"), broken).run(lambda: None)
    failure = next(event for event in bench.screen.events if event.kind == "failed")
    assert failure.part == "broken"
    assert ("no licence" in failure.log) == ("licence" in script)
    assert bench.left() == []


async def test_a_program_that_does_not_exist_is_a_failure_of_its_part(bench: Bench) -> None:
    """A missing file is reported like any other failure."""
    missing = replace(bench.part("missing"), command=("/does/not/exist",))
    with pytest.raises(PartFailed, match="missing cannot be started"):
        await bench.supervisor(missing).run(lambda: None)


async def test_a_start_that_fails_is_tried_again_where_the_part_allows_it(
    bench: Bench, tmp_path: Path
) -> None:
    """A part with two tries comes up at the second one."""
    mark = tmp_path / "mark"
    flaky = f"import pathlib\nif not pathlib.Path({str(mark)!r}).exists():\n pathlib.Path({str(mark)!r}).touch()\n raise SystemExit(1)\n"
    held = bench.supervisor(bench.part("flaky", script=flaky + ESCAPING, tries=2))
    await held.run(held.stop.set)
    assert [event.kind for event in bench.screen.events if event.part == "flaky"].count("starting") == 2


async def test_the_end_of_a_part_ends_all(bench: Bench) -> None:
    """What runs without a part it needs only fails more quietly, so everything stops and says why."""
    held = bench.supervisor(bench.part("kept"), bench.part("killed"))
    with pytest.raises(PartFailed, match="killed ended by itself with signal 9"):
        await held.run(lambda: os.kill(held.records["killed"].pid, signal.SIGKILL))
    assert bench.left() == []


async def test_a_part_that_may_restart_is_restarted(bench: Bench) -> None:
    """The operator's end is repaired; the others are not touched."""
    held = bench.supervisor(bench.part("kept"), bench.part("repaired", restarts=1))
    running = asyncio.create_task(held.run(lambda: os.kill(held.records["repaired"].pid, signal.SIGKILL)))
    await bench.screen.until("ready", "repaired", 2)
    assert held.records["repaired"].restarts == 1
    assert held.records["kept"].restarts == 0
    held.stop.set()
    await running
    assert bench.left() == []


async def test_ends_far_apart_are_no_row(bench: Bench) -> None:
    """A part that served well between its ends is restarted however often, and the number of restarts is told."""
    held = bench.supervisor(bench.part("repaired", restarts=1, steady=0))

    async def kill_twice_more() -> None:
        for number in (2, 3):
            await bench.screen.until("ready", "repaired", number)
            os.kill(held.records["repaired"].pid, signal.SIGKILL)

    running = asyncio.create_task(held.run(lambda: os.kill(held.records["repaired"].pid, signal.SIGKILL)))
    await kill_twice_more()
    await bench.screen.until("ready", "repaired", 4)
    assert held.records["repaired"].restarts == 3
    held.stop.set()
    await running


async def test_an_end_while_it_is_started_again_is_one_in_the_row(bench: Bench, tmp_path: Path) -> None:
    """What was killed may be killed again before it is ready: that alone does not stop the stack."""
    starts = tmp_path / "starts"
    flaky = (
        f"import pathlib\nstarts = pathlib.Path({str(starts)!r})\n"
        "count = int(starts.read_text()) if starts.exists() else 0\nstarts.write_text(str(count + 1))\n"
        "if count == 1:\n raise SystemExit(3)\n"
    )
    held = bench.supervisor(bench.part("repaired", script=flaky + ESCAPING, restarts=2))
    running = asyncio.create_task(held.run(lambda: os.kill(held.records["repaired"].pid, signal.SIGKILL)))
    await bench.screen.until("ready", "repaired", 2)
    assert held.records["repaired"].restarts == 2
    held.stop.set()
    await running
    assert bench.left() == []


async def test_ends_in_a_row_stop_the_stack(bench: Bench) -> None:
    """A part that ends soon after each start isn't started for ever."""
    held = bench.supervisor(bench.part("broken", restarts=1))

    async def kill_again() -> None:
        await bench.screen.until("ready", "broken", 2)
        os.kill(held.records["broken"].pid, signal.SIGKILL)

    killing = asyncio.create_task(kill_again())
    with pytest.raises(PartFailed, match="broken ended by itself with signal 9"):
        await held.run(lambda: os.kill(held.records["broken"].pid, signal.SIGKILL))
    await killing
    assert bench.left() == []


async def test_a_stop_during_the_start_leaves_nothing(bench: Bench) -> None:
    """Ctrl-C is heard while a part is still starting."""
    slow = bench.part("slow", script="import signal; signal.pause()")
    held = bench.supervisor(bench.part("quick"), slow)
    running = asyncio.create_task(held.run(lambda: None))
    await bench.screen.until("ready", "quick")
    held.stop.set()
    await running
    assert bench.left() == []


async def test_what_a_killed_supervisor_left_is_found(bench: Bench) -> None:
    """After SIGKILL of a supervisor its processes are found by the marker and ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import signal; signal.pause()",
        env={**os.environ, MARKER: bench.state.stack_id},
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import signal; signal.pause()", env={**os.environ, MARKER: "another stack"}
    )
    assert await asyncio.to_thread(supervisor.clear, bench.state) == 1
    await process.wait()
    assert bench.left() == []
    assert other.returncode is None
    other.kill()
    await other.wait()
