# SPDX-License-Identifier: Apache-2.0
"""`lateen up`: supervise in this process, or start a supervisor in the background and watch it come up."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial

from lateen_cli import kubectl, preparation, processes, supervisor
from lateen_cli.parts.part import Site
from lateen_cli.probes import Probe, until_ready
from lateen_cli.screen import Both, Event, Lines, Screen
from lateen_cli.state import MARKER, Run, StateDir, Unusable, write
from lateen_cli.supervisor import PartFailed, Step, Supervisor

START_LIMIT = 300.0
"""Seconds to wait for a start that another process makes."""

GATEWAY_LIMIT = 300.0
"""Seconds from the operator's start to the gateway's first catalog."""

STOP_LIMIT = 60.0
"""Seconds a supervisor may take to end its parts before it is killed."""


def supervise(state: StateDir, screen: Screen) -> int:
    """Hold the stack until somebody stops it; the exit status."""
    state.create()
    lock = state.lock()
    if lock is None:
        return await_other(state, screen)
    with state.log("events").open("w") as log:
        try:
            return _hold(state, Both(screen, Lines(log)))
        finally:
            screen.close()
            os.close(lock)


def _hold(state: StateDir, screen: Screen) -> int:
    me = processes.identify(os.getpid())
    if left := len(processes.belonging(state.stack_id)):
        screen.show(Event(kind="note", text=f"Ending {left} processes left over from an earlier run."))
        supervisor.clear(state)
        state.create()
    write(state.run_file, Run(phase="starting", supervisor=me).model_dump_json())
    try:
        return _supervise(state, screen)
    except (Unusable, OSError) as error:
        supervisor.clear(state)
        screen.show(Event(kind="failed", text=str(error)))
        return 1


def _supervise(state: StateDir, screen: Screen) -> int:
    before = state.stack()
    site, guard = preparation.prepare(state)
    if before and before.ports != site.ports:
        screen.show(
            Event(kind="note", text="Another program took a port of the last run; all ports are new.")
        )
    came_up = False

    def announce() -> None:
        nonlocal came_up
        came_up = True
        screen.show(Event(kind="up", text=welcome(site)))

    holder = Supervisor(state, preparation.parts(site), (_resources(site), _gateway(site)), screen)
    try:
        asyncio.run(holder.run(announce))
    except PartFailed:
        return 1
    finally:
        guard.close()
    return 0 if came_up else 130


def _resources(site: Site) -> Step:
    client = kubectl.Kubectl(site.tools["kubectl"], site.state.kubeconfig, site.state.cache("lateen"))
    return Step("resources", frozenset({"apiserver"}), partial(kubectl.install, client, site.secrets.api_key))


def _gateway(site: Site) -> Step:
    """What clients talk to; the operator makes Ray start it, and it is ready once it has its first catalog."""
    probe = Probe(site.ports.gateway, "/readyz")
    return Step("gateway", frozenset({"operator"}), partial(until_ready, probe, GATEWAY_LIMIT))


def welcome(site: Site) -> str:
    """What a person does next."""
    option = "" if site.state.root == StateDir.at_default().root else f" --state-dir {site.state.root}"
    return (
        f"Lateen is up: http://127.0.0.1:{site.ports.gateway}/v1\n"
        f'  eval "$(lateen env{option})"   for kubectl and OpenAI clients\n'
        f"  lateen status{option}"
    )


def detach(state: StateDir, screen: Screen) -> int:
    """Start a supervisor in its own session and return when the stack is up or has failed."""
    state.create()
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "lateen_cli.main", "up", "--state-dir", str(state.root)]
    log = state.log("supervisor")
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*command, "--events", str(writing)],
            env={**os.environ, MARKER: state.stack_id},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    # Explicit, because a shell starts background commands with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: child.terminate())
    try:
        return _follow(reading, screen, child)
    finally:
        screen.close()


def _follow(reading: int, screen: Screen, child: "subprocess.Popen[bytes]") -> int:
    """Show a supervisor's events until it says `up` or ends."""
    with os.fdopen(reading, closefd=False) as events:
        for line in events:
            event = Event.model_validate_json(line)
            screen.show(event)
            if event.kind == "up":
                return 0
    code = child.wait()
    return code if code > 0 else 1


def await_other(state: StateDir, screen: Screen) -> int:
    """A supervisor holds the stack already: 0 once it is ready."""
    deadline = time.monotonic() + START_LIMIT
    screen.show(Event(kind="note", text="This stack is held by another `lateen up`."))
    while time.monotonic() < deadline:
        run = state.run()
        if run and run.phase == "ready" and processes.alive(run.supervisor):
            screen.show(Event(kind="up", text="It is running."))
            return 0
        if run and processes.alive(run.supervisor) is None:
            break
        time.sleep(0.5)
    screen.show(Event(kind="failed", text="The other start did not succeed."))
    return 1


def shut(state: StateDir, screen: Screen) -> int:
    """`lateen down`: ask the supervisor to end, then end whatever is left."""
    run = state.run()
    holder = processes.alive(run.supervisor) if run else None
    if holder:
        screen.show(Event(kind="note", text=f"Asking the supervisor (pid {holder.pid}) to stop."))
        processes.end([holder], STOP_LIMIT)
    left = supervisor.clear(state)
    ended = "Stopped." if holder or left else "Nothing was running."
    extra = f" {left} left-over processes were ended." if left else ""
    screen.show(Event(kind="down", text=ended + extra))
    screen.close()
    return 0
