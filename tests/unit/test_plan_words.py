# SPDX-License-Identifier: Apache-2.0
"""Small pure parts of the plans: failure lines, backoff, schedules, config comparison, status documents."""

from typing import Any

import pytest

from lateen_api.conditions import ConditionType, Reason
from lateen_api.rag_index import Schedule
from lateen_operator.plan import problems, schedules, serving
from lateen_operator.seams import Key, Kind, Resource
from lateen_operator.status import MAX_MESSAGE, Report, Verdict, document, events, unix, unready_seconds


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("lateen-failure SourceNotFound: no such folder", Reason.SOURCE_NOT_FOUND, "no such folder"),
        ("a\nRayTaskError: lateen-failure SourceRefused: pickle\n  File x", Reason.SOURCE_REFUSED, "pickle"),
        ("lateen-failure Mystery: odd", Reason.REPLICA_FAILED, "odd"),
        (r"'lateen-failure BuildFailed: escaped\n  File'", Reason.BUILD_FAILED, "escaped"),
    ],
)
def test_failure_lines_are_found_inside_ray_messages(text: str, reason: Reason, message: str) -> None:
    """The reason and the message of a replica or job reach the condition, whatever Ray wraps around them."""
    assert problems.failure(text) == Verdict("False", reason, message)


def test_text_without_a_failure_line_has_no_verdict() -> None:
    """Ordinary output is not mistaken for a failure."""
    assert problems.failure("loading weights\nready") is None


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 5), (1, 10), (3, 40), (6, 300), (10_000, 300)])
def test_backoff_doubles_to_a_limit(attempt: int, seconds: float) -> None:
    """Waits grow from five seconds to five minutes and never overflow."""
    assert problems.backoff(attempt) == seconds


@pytest.mark.parametrize(
    ("cron", "zone", "now", "last", "following"),
    [
        ("0 * * * *", "Etc/UTC", "2026-03-01T10:30:00Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"),
        (
            "30 9 * * *",
            "Europe/Berlin",
            "2026-07-01T08:00:00Z",
            "2026-07-01T07:30:00Z",
            "2026-07-02T07:30:00Z",
        ),
        (
            "30 9 * * *",
            "Europe/Berlin",
            "2026-01-10T08:00:00Z",
            "2026-01-09T08:30:00Z",
            "2026-01-10T08:30:00Z",
        ),
    ],
)
def test_schedules_tick_in_their_time_zone(cron: str, zone: str, now: str, last: str, following: str) -> None:
    """The last and the next tick follow the wall clock of the zone, summer time included."""
    schedule = Schedule(cron=cron, time_zone=zone)
    assert schedules.tick(schedule, unix(now), following=False) == unix(last)
    assert schedules.tick(schedule, unix(now), following=True) == unix(following)


@pytest.mark.parametrize(
    ("cron", "zone", "word"), [("61 * * * *", "Etc/UTC", "cron"), ("* * * * *", "Mars/Olympus", "timeZone")]
)
def test_impossible_schedules_name_their_field(cron: str, zone: str, word: str) -> None:
    """A cron expression or zone that does not exist is refused by the field's name."""
    with pytest.raises(ValueError, match=word):
        schedules.check(Schedule(cron=cron, time_zone=zone))


@pytest.mark.parametrize(
    ("present", "wanted", "same"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, True),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"b": 1, "c": 0}]}, {"a": [{"b": 1}]}, True),
        (None, {"a": 1}, False),
        ({"n": 1.0}, {"n": 1}, True),
    ],
)
def test_defaults_that_ray_fills_in_are_no_drift(present: Any, wanted: Any, same: bool) -> None:
    """What runs may say more than what is wanted, but nothing else."""
    assert serving.contains(present, wanted) is same


def resource(**status: Any) -> Resource:
    """A resource with a status."""
    key = Key(Kind.MODEL_DEPLOYMENT, "default", "m")
    return Resource(key, "uid", 3, "1", 0, {}, status, {}, (), False)


READY = Report(Verdict("True", Reason.READY, "fine"))
FAILING = Report(Verdict("False", Reason.REPLICA_FAILED, "x" * 5000), stalled=True)


def test_transition_times_move_only_with_the_status() -> None:
    """A new message keeps the time, a new status takes the present one."""
    first = document(resource(), READY, now=0)
    again = document(resource(**first), Report(Verdict("True", Reason.READY, "better")), now=60)
    failed = document(resource(**first), FAILING, now=60)
    assert again["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    assert failed["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:01:00Z"
    assert unready_seconds(resource(**failed), now=100) == 40


def test_an_unchanged_report_is_an_equal_document() -> None:
    """Saying the same thing later makes the same status, so that nothing is written."""
    first = document(resource(), READY, now=0)
    assert document(resource(**first), READY, now=999) == first


def test_conditions_that_do_not_hold_are_left_out() -> None:
    """Reconciling and Stalled exist only while true, as kstatus reads them; messages are bounded."""
    conditions = document(resource(), FAILING, now=0)["conditions"]
    assert [c["type"] for c in conditions] == [ConditionType.READY, ConditionType.STALLED]
    assert len(conditions[0]["message"]) == MAX_MESSAGE
    assert {c["observedGeneration"] for c in conditions} == {3}


def test_events_follow_the_ready_condition() -> None:
    """One Event per change of status or reason, a Warning when something is wrong, none when nothing changed."""
    ready = resource(**document(resource(), READY, now=0))
    assert [(e.type, e.reason) for e in events(resource(), READY)] == [("Normal", "Ready")]
    assert events(ready, READY) == ()
    assert [(e.type, e.reason) for e in events(ready, FAILING)] == [("Warning", "ReplicaFailed")]
