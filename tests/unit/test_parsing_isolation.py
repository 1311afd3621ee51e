# SPDX-License-Identifier: Apache-2.0
"""A file that harms the process reading it fails alone."""

import pytest

from lateen_serving.rag.parsing import isolation
from lateen_serving.rag.parsing.guarded import Bounds
from lateen_serving.rag.parsing.isolation import Isolated
from lateen_serving.rag.parsing.parsed import Outcome, Parsed, Raw
from unit.parsing_processes import ProcessRunner

BOUNDS = Bounds(seconds=2, batch_seconds=60, memory=400 << 20)


def told(outcomes: list[Outcome]) -> list[str]:
    """The text or the reason of each."""
    return [outcome.text if isinstance(outcome, Parsed) else outcome.reason for outcome in outcomes]


def files(*names: str) -> list[Raw]:
    """A file per name, which is its text too."""
    return [Raw(name, name.encode()) for name in names]


async def test_bounds_are_kept_inside_the_process() -> None:
    """Endless loops, memory without end, recursion and surprises are refused without losing the process."""
    with ProcessRunner() as runner:
        outcomes = await Isolated(runner, BOUNDS).parse(
            files("a.txt", "spins", "grows", "recurses", "surprises", "b.txt")
        )
        assert told(outcomes) == ["a.txt", "TooComplex", "TooComplex", "Bomb", "Malformed", "b.txt"]
        assert runner.batches == [6]


async def test_what_the_machine_lacks_is_no_fault_of_the_file() -> None:
    """A missing library or too many open files count as a crash, which costs no document its passages."""
    with ProcessRunner() as runner:
        outcomes = await Isolated(runner, BOUNDS).parse(files("lacks", "starves", "a.txt"))
        assert told(outcomes) == ["Crashed", "Crashed", "a.txt"]


async def test_a_file_that_kills_its_process_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of its batch are read again, one by one; what never comes back is stopped."""
    monkeypatch.setattr(isolation, "GRACE", 4.0)
    with ProcessRunner() as runner:
        isolated = Isolated(runner, Bounds(seconds=2, batch_seconds=4, memory=400 << 20))
        assert told(await isolated.parse(files("a.txt", "kills", "b.txt"))) == ["a.txt", "Crashed", "b.txt"]
        assert runner.batches == [3, 1, 1, 1]
        assert told(await isolated.parse(files("hangs"))) == ["TooComplex"]
        assert told(await isolated.parse(files("a.txt"))) == ["a.txt"]


async def test_a_batch_that_takes_long_is_gone_on_with() -> None:
    """A process gives back what it has when its time is up; the rest is asked for again."""
    with ProcessRunner() as runner:
        isolated = Isolated(runner, Bounds(seconds=0.5, batch_seconds=0.1, memory=400 << 20))
        assert told(await isolated.parse(files("spins", "a.txt"))) == ["TooComplex", "a.txt"]
        assert runner.batches == [2, 1]
