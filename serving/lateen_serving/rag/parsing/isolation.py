# SPDX-License-Identifier: Apache-2.0
"""Lets a document that kills the process reading it fail alone. Called by `sync.py`; knows no way to start processes.

Files are read in batches, since most are small. When the process of a batch dies, its files are read once more, one by
one: those that die again are to blame.
"""

from collections.abc import Sequence
from typing import Protocol

from lateen_serving.rag.parsing.guarded import Bounds
from lateen_serving.rag.parsing.parsed import Outcome, Raw, Refused

GRACE = 60.0
"""Seconds on top of what parsing may take, to start a process and to carry files and texts: on a machine that has
much else to do a process takes ten seconds to start, and no document is to blame for that."""


class Died(Exception):
    """The process that read a batch is gone.

    Attributes:
        late: Whether it had to be ended, because it did not come back.

    """

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


class Runner(Protocol):
    """Reads files in another process, bounded by `guarded.py`."""

    async def run(self, batch: Sequence[Raw], bounds: Bounds, seconds: float) -> list[Outcome]:
        """What became of the first files of `batch`, at least one; Died if there is no answer within `seconds`."""
        ...


class Isolated:
    """Reads files; whatever they are, each has an outcome."""

    def __init__(self, runner: Runner, bounds: Bounds | None = None) -> None:
        self._runner = runner
        self._bounds = bounds or Bounds()

    async def parse(self, files: Sequence[Raw]) -> list[Outcome]:
        """What became of each of `files`, in order."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(files):
            rest = files[len(outcomes) :]
            try:
                outcomes += await self._runner.run(rest, self._bounds, self._bounds.longest + GRACE)
            except Died as death:
                if len(rest) == 1:
                    outcomes.append(_refused(death))
                else:
                    outcomes += [await self._alone(raw) for raw in rest]
        return outcomes

    async def _alone(self, raw: Raw) -> Outcome:
        try:
            return (await self._runner.run([raw], self._bounds, self._bounds.seconds + GRACE))[0]
        except Died as death:
            return _refused(death)


def _refused(death: Died) -> Refused:
    if death.late:
        return Refused("TooComplex", "reading it did not end in time and had to be stopped")
    return Refused("Crashed", f"reading it killed the process that read it: {death}")
