# SPDX-License-Identifier: Apache-2.0
"""When the operator calls itself alive and ready, and what it measures."""

from collections.abc import Callable

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Application, Response

from lateen_operator.health import LONGEST_RECONCILE, Vitals, application
from lateen_operator.metrics import Metrics
from lateen_operator.seams import WATCHED, Key, Kind


class Clock:
    """Time that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Time that this test moves."""
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    """A process that has just started."""
    return Vitals(clock, stale_after=180)


async def get(app: Application, path: str) -> Response:
    """The reply of a page, without a network."""
    request = make_mocked_request("GET", path, app=app)
    match = await app.router.resolve(request)
    reply = await match.handler(request)
    assert isinstance(reply, Response)
    return reply


def keep_watching(vitals: Vitals) -> None:
    """Signs of life of everything."""
    for kind in WATCHED:
        vitals.watched(kind)
    vitals.resynced()


async def test_standby_is_alive_and_ready_however_long_it_waits(vitals: Vitals, clock: Clock) -> None:
    """A rollout of two replicas must end, and nothing of a standby can be stale."""
    app = application(vitals, Metrics())
    clock.now += 100_000
    for page in ("/healthz", "/readyz"):
        assert (await get(app, page)).status == 200
    assert '"standby"' in str((await get(app, "/readyz")).text)


async def test_leader_is_ready_once_it_has_listed_everything(vitals: Vitals) -> None:
    """Until then it is alive, but starting."""
    app = application(vitals, Metrics())
    vitals.lead()
    assert (await get(app, "/healthz")).status == 200
    assert (await get(app, "/readyz")).status == 503
    vitals.synced = True
    assert (await get(app, "/readyz")).status == 200


def stale_watch(vitals: Vitals, clock: Clock) -> None:
    """One kind's watch falls silent."""
    clock.now += 181
    keep_watching(vitals)
    vitals.watched_at[Kind.RAG_INDEX] = clock.now - 181


def stuck_resync(vitals: Vitals, clock: Clock) -> None:
    """The timer that gives truth does not come back."""
    clock.now += 181
    for kind in WATCHED:
        vitals.watched(kind)


def stuck_reconcile(vitals: Vitals, clock: Clock) -> None:
    """A reconcile never ends."""
    keep_watching(vitals)
    vitals.longest_reconcile = lambda: LONGEST_RECONCILE + 1


@pytest.mark.parametrize(
    ("happens", "complaint"),
    [(stale_watch, "RAGIndex"), (stuck_resync, "resync"), (stuck_reconcile, "reconcile")],
)
async def test_what_a_restart_may_cure_fails_healthz(
    happens: Callable[[Vitals, Clock], None], complaint: str, vitals: Vitals, clock: Clock
) -> None:
    """The page says which part is at fault."""
    vitals.lead()
    app = application(vitals, Metrics())
    assert (await get(app, "/healthz")).status == 200
    happens(vitals, clock)
    reply = await get(app, "/healthz")
    assert reply.status == 503
    assert complaint in str(reply.text)


async def test_signs_of_life_keep_healthz_green(vitals: Vitals, clock: Clock) -> None:
    """Age counts from the last sign, not from the start."""
    vitals.lead()
    for _ in range(10):
        clock.now += 100
        keep_watching(vitals)
    assert vitals.complaints() == []


async def test_metrics_show_what_happened(vitals: Vitals, clock: Clock) -> None:
    """Reconciles, failures, requests, queue, leadership and age of watches, each under its documented name."""
    metrics = Metrics()
    metrics.follow(lambda: 3, vitals.watch_age)
    metrics.follow_lag(lambda: [(Key(Kind.RAG_INDEX, "team", "handbook"), 12.5)])
    vitals.lead()
    clock.now += 7
    metrics.leading(True)
    metrics.reconciled(Kind.RAG_INDEX, 0.2, failed=False)
    metrics.reconciled(Kind.RAG_INDEX, 0.2, failed=True)
    metrics.requested("apply", "ragindexes/status")
    text = str((await get(application(vitals, metrics), "/metrics")).body)
    for line in (
        'lateen_operator_reconciliations_total{kind="RAGIndex",result="success"} 1.0',
        'lateen_operator_reconciliations_total{kind="RAGIndex",result="failure"} 1.0',
        'lateen_operator_reconciliations_failed_total{kind="RAGIndex"} 1.0',
        'lateen_operator_reconciliations_failed_total{kind="ModelDeployment"} 0.0',
        'lateen_operator_reconciliation_seconds_count{kind="RAGIndex"} 2.0',
        'lateen_operator_api_requests_total{resource="ragindexes/status",verb="apply"} 1.0',
        'lateen_operator_watch_age_seconds{kind="RAGIndex"} 7.0',
        "lateen_operator_queue_depth 3.0",
        'lateen_operator_index_lag_seconds{name="handbook",namespace="team"} 12.5',
        "lateen_operator_leader 1.0",
        "lateen_operator_build_info{version=",
    ):
        assert line in text


def test_two_operators_in_one_process_do_not_share_metrics() -> None:
    """The registry is not global."""
    one, other = Metrics(), Metrics()
    one.reconciled(Kind.RAG_INDEX, 0.1, failed=True)
    assert b'lateen_operator_reconciliations_failed_total{kind="RAGIndex"} 0.0' in other.text()
