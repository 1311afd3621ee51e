# SPDX-License-Identifier: Apache-2.0
"""Kills the processes that an index is made by, at moments that dice choose."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack.local import LocalStack
from stack.parts import Weaviate
from stack.waiting import wait_for

LONG_AGO = 25.0
"""Seconds since its start after which Weaviate surely counts as steady: a supervisor gives up one that ends soon again and again."""

PLANS = (("build",), ("weaviate",), ("build", "weaviate"), ("weaviate", "weaviate"))


def say(text: str) -> None:
    """What a failed run must tell, to be repeated."""
    sys.stderr.write(f"{text}\n")


def _wait_until(moment: float) -> None:
    """Here a moment is what is waited for, whatever happens meanwhile."""
    wait_for(lambda: time.time() >= moment, 300, "time stands still", interval=0.01)


@dataclass(frozen=True)
class Killer:
    """Of one index."""

    stack: LocalStack
    weaviate: Weaviate
    index: str
    """`NAMESPACE.NAME`."""
    dice: random.Random

    def builder(self) -> psutil.Process | None:
        """The process of the index's build job, where there is one."""
        for process in self.stack.processes():
            with suppress(psutil.Error, OSError):
                if process.cmdline()[1:3] == ["-m", "lateen_serving.rag.build"]:
                    request = json.loads((Path(process.cwd()) / "build.json").read_bytes())
                    if request["id"] == self.index:
                        return process
        return None

    def time_build(self) -> float:
        """Seconds that the process of the present or next build runs."""
        process = wait_for(self.builder, 60, "no build began")
        assert process is not None
        began = process.create_time()
        wait_for(lambda: not process.is_running(), 120, "the build does not end")
        return time.time() - began

    def rest(self) -> None:
        """Return when the present Weaviate has run for long enough."""
        _wait_until(psutil.Process(self.stack.pid("weaviate")).create_time() + LONG_AGO)

    def strike(self, victims: Sequence[str], seconds: float) -> str:
        """Kill each victim at a moment of the next build, which takes about `seconds`; says what was done."""
        process = wait_for(self.builder, 60, "no build began")
        assert process is not None
        done = []
        moments = sorted(process.create_time() + self.dice.uniform(0, seconds) for _ in victims)
        for victim, moment in zip(victims, moments, strict=True):
            _wait_until(moment)
            after = f"{time.time() - process.create_time():.2f} s"
            if victim == "weaviate":
                self.kill_weaviate()
                done.append(f"weaviate after {after}")
            elif process.is_running():
                process.kill()
                done.append(f"build after {after}")
            else:
                done.append("build had ended")
        return ", ".join(done)

    def kill_weaviate(self) -> None:
        """SIGKILL; returns when its successor serves."""
        killed = self.stack.pid("weaviate")
        os.kill(killed, signal.SIGKILL)
        wait_for(
            lambda: self.stack.pid("weaviate") != killed and self.weaviate.ready(), 90, "Weaviate stays away"
        )
