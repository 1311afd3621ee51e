# SPDX-License-Identifier: Apache-2.0
"""Counts of how requests to applications ended."""

import pytest

from lateen_api.gateway_report import LATENCY_BOUNDS, Traffic
from lateen_serving.errors import (
    BrokenOff,
    ContextTooLong,
    DeadlineExceeded,
    ModelError,
    Overloaded,
    QueueTimeout,
    ReplicaLost,
    ServiceError,
    Unavailable,
)
from lateen_serving.gateway.traffic import Ledger, is_revisions_doing


def ledger(**applications: int | None) -> Ledger:
    """One that follows these applications, by their `since`."""
    made = Ledger()
    made.follow(applications)
    return made


@pytest.mark.parametrize(
    ("error", "is_error"),
    [
        (None, False),
        (ContextTooLong("long"), False),
        (Overloaded("full"), False),
        (ModelError("broken"), True),
        (Unavailable("lost"), True),
        (QueueTimeout("waited"), True),
        (DeadlineExceeded("late"), True),
    ],
)
def test_failed_requests_are_errors(error: ServiceError | None, is_error: bool) -> None:
    """Wrong requests and a full queue are no errors of a revision; everything else that a client sees is."""
    counts = ledger(app=None)
    counts.ended("app", error, 0.2)
    found = counts.traffic()["app"]
    assert (found.requests, found.errors) == (1, int(is_error))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModelError("broken"), True),
        (BrokenOff("no end"), True),
        (ReplicaLost("crashed"), True),
        (Unavailable("stopped"), False),
        (QueueTimeout("waited"), False),
        (DeadlineExceeded("late"), False),
    ],
)
def test_only_what_a_revision_did_counts_unseen(error: ServiceError, expected: bool) -> None:
    """Failures that no client saw count where the engine failed or a replica died under the request."""
    assert is_revisions_doing(error) is expected


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.05, 0), (0.051, 1), (120.0, 17), (120.1, len(LATENCY_BOUNDS))]
)
def test_latencies_fall_into_their_buckets(seconds: float, bucket: int) -> None:
    """A bucket takes its bound and everything down to the one before; the last takes what is beyond."""
    counts = ledger(app=None)
    counts.ended("app", None, seconds)
    latencies = counts.traffic()["app"].latencies
    assert len(latencies) == len(LATENCY_BOUNDS) + 1
    assert [number for number, count in enumerate(latencies) if count] == [bucket]


def test_a_refused_request_has_no_latency() -> None:
    """How fast a wrong request is refused says nothing about the model."""
    counts = ledger(app=None)
    counts.ended("app", ContextTooLong("long"), 0.001)
    assert counts.traffic()["app"].latencies == []


@pytest.mark.parametrize(
    ("before", "after", "requests"),
    [(None, None, 1), (1, 1, 1), (1, 2, 0), (None, 1, 0), (1, None, 1)],
)
def test_a_new_since_begins_at_nothing(before: int | None, after: int | None, requests: int) -> None:
    """A canary's new step resets its counts; other catalogs, also the one that promotes it, don't."""
    counts = ledger(app=before)
    counts.ended("app", None, 0.2)
    counts.follow({"app": after})
    assert counts.traffic()["app"].requests == requests


def test_what_left_the_catalog_is_forgotten() -> None:
    """Only applications of the catalog are counted, also when late requests to others end."""
    counts = ledger(old=None)
    counts.ended("old", None, 0.2)
    counts.follow({"new": None})
    counts.ended("old", None, 0.2)
    assert counts.traffic() == {"new": Traffic()}
