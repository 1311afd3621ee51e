# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr, so that stdout stays the one line a script captures."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Progress:
    """Says what happens to which tool; on a terminal a heartbeat overwrites itself."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _overwritable: bool = False

    def say(self, subject: str, text: str) -> None:
        """One lasting line."""
        self._clear()
        self.stream.write(f"{subject}: {text}\n")
        self.stream.flush()

    def beat(self, subject: str, text: str) -> None:
        """A sign of life while something long runs."""
        if not self.stream.isatty():
            self.say(subject, text)
            return
        self._clear()
        self.stream.write(f"{subject}: {text}")
        self.stream.flush()
        self._overwritable = True

    def _clear(self) -> None:
        if self._overwritable:
            self.stream.write("\r\x1b[2K")
            self._overwritable = False
