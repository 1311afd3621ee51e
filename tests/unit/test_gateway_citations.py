# SPDX-License-Identifier: Apache-2.0
"""Citations: which documents an answer rests on."""

import time

import pytest

from lateen_serving.gateway.citations import cite
from lateen_serving.rag.passages import Passage
from unit.gateway_fakes import passage

LEAVE = passage("hb/leave.md", "Employees have 28 days of paid leave every year.", 0.9)
TRAVEL = passage("hb/travel.md", "Train tickets are booked through the travel desk.", 0.8)
LEAVE_AGAIN = passage("hb/leave.md", "Paid leave is requested 14 days ahead.", 0.7)
REMOTE = passage("hb/remote.md", "Work from home is possible on two days.", 0.6, heading="Remote work")


@pytest.mark.parametrize(
    ("answer", "passages", "expected"),
    [
        ("", [LEAVE], []),
        ("  \n", [LEAVE], []),
        ("Anything.", [], []),
        ("You have 28 days of paid leave.", [LEAVE, TRAVEL], [("hb/leave.md", 31)]),
        ("You have 28 days of paid leave.", [TRAVEL, LEAVE], [("hb/leave.md", 31)]),
        ("Zzz qqq.", [TRAVEL, LEAVE], [("hb/travel.md", 8)]),
        ("Is it?", [TRAVEL], [("hb/travel.md", 6)]),
        (
            "There are 28 days of leave. Train tickets come from the travel desk.",
            [LEAVE, TRAVEL],
            [("hb/travel.md", 68), ("hb/leave.md", 27)],
        ),
        ("You have 28 days of leave?! Desk.", [LEAVE], [("hb/leave.md", 27)]),
        ("Paid leave is requested 14 days ahead.", [LEAVE, LEAVE_AGAIN], [("hb/leave.md", 38)]),
        ("REMOTE WORK: home, two days", [TRAVEL, REMOTE], [("hb/remote.md", 27)]),
        ("Paid leave\nTrain tickets: desk", [TRAVEL], [("hb/travel.md", 30)]),
    ],
    ids=[
        "empty answer",
        "blank answer",
        "no passages",
        "the passage whose words it uses",
        "rank doesn't beat support",
        "nothing shared: the first passage",
        "no content words: the first passage",
        "two documents, each after its sentence",
        "a run of punctuation ends one sentence",
        "one citation per document",
        "headings and case count",
        "a line is a sentence",
    ],
)
def test_cites(answer: str, passages: list[Passage], expected: list[tuple[str, int]]) -> None:
    """The cited documents and the positions after which their citations belong are these."""
    assert [(citation.file_id, citation.index) for citation in cite(answer, passages)] == expected


def test_a_long_run_of_punctuation_takes_no_longer_than_other_text() -> None:
    """One in the middle of a word ends no sentence, and is read once."""
    answer = "There are 28 days of leave" + "." * 50_000 + "x"
    began = time.process_time()
    (citation,) = cite(answer, [LEAVE])
    assert time.process_time() - began < 3
    assert citation.index == len(answer)


def test_weak_support_is_not_cited() -> None:
    """A passage with less than 0.6 of the best one's support is left out, one with more is kept."""
    answer = "alpha beta gamma delta epsilon"
    full = passage("d/full", "alpha beta gamma delta epsilon")
    three = passage("d/three", "alpha beta gamma")
    two = passage("d/two", "alpha beta")
    assert [citation.file_id for citation in cite(answer, [two, three, full])] == ["d/full", "d/three"]


def test_position_is_inside_the_answer() -> None:
    """The position never lies beyond the answer, trailing blanks included."""
    (citation,) = cite("Nothing known about it…   ", [LEAVE])
    assert citation.index == len("Nothing known about it…")
