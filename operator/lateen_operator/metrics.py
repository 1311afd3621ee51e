# SPDX-License-Identifier: Apache-2.0
"""The operator's metrics, in a registry of their own; filled by `main.py` and `cluster.py`, shown by `health.py`."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lateen_operator.seams import WATCHED, Key, Kind

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """One process's metrics. Kinds are labels from the start, so that a rate exists before the first failure."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix, registry = "lateen_operator", self.registry
        self._reconciliations = Counter(
            f"{prefix}_reconciliations_total", "Reconciles.", ["kind", "result"], registry=registry
        )
        self._failed = Counter(
            f"{prefix}_reconciliations_failed_total", "Reconciles that failed.", ["kind"], registry=registry
        )
        self._seconds = Histogram(
            f"{prefix}_reconciliation_seconds",
            "How long reconciles took.",
            ["kind"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            f"{prefix}_api_requests_total",
            "Requests to the Kubernetes API, without the watches.",
            ["verb", "resource"],
            registry=registry,
        )
        self._repaired = Counter(
            f"{prefix}_missed_events_total",
            "Changes that a resync found and the watch had not told.",
            ["kind"],
            registry=registry,
        )
        self._leader = Gauge(f"{prefix}_leader", "1 while this process holds the Lease.", registry=registry)
        Gauge(
            f"{prefix}_build_info", "Always 1; the version is a label.", ["version"], registry=registry
        ).labels(_version()).set(1)
        for kind in Kind:
            self._failed.labels(kind.value)
            for result in ("success", "failure"):
                self._reconciliations.labels(kind.value, result)
        for watched in WATCHED:
            self._repaired.labels(watched)

    def reconciled(self, kind: Kind, seconds: float, *, failed: bool) -> None:
        """Count one reconcile that took so many seconds."""
        self._reconciliations.labels(kind.value, "failure" if failed else "success").inc()
        self._seconds.labels(kind.value).observe(seconds)
        if failed:
            self._failed.labels(kind.value).inc()

    def requested(self, verb: str, resource: str) -> None:
        """Count one request to the Kubernetes API."""
        self._requests.labels(verb, resource).inc()

    def repaired(self, kind: str, count: int) -> None:
        """Count changes that only a resync found."""
        self._repaired.labels(kind).inc(count)

    def leading(self, yes: bool) -> None:  # it is a gauge's value
        """Say whether this process leads."""
        self._leader.set(1 if yes else 0)

    def follow(self, depth: Callable[[], int], age: Callable[[str], float]) -> None:
        """Show the queue's depth and, for each kind, the seconds since its watch was last known to be fresh."""
        Gauge(
            "lateen_operator_queue_depth", "Resources waiting for a reconcile.", registry=self.registry
        ).set_function(depth)
        gauge = Gauge(
            "lateen_operator_watch_age_seconds",
            "Seconds since the watch of a kind was last known to miss nothing.",
            ["kind"],
            registry=self.registry,
        )
        for kind in WATCHED:
            gauge.labels(kind).set_function(partial(age, kind))

    def follow_lag(self, lags: Callable[[], Iterable[tuple[Key, float]]]) -> None:
        """Show for each RAGIndex the seconds since the oldest change that can't be found in it, 0 for none."""
        self.registry.register(_Lags(lags))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Lags(Collector):
    """Asks for the lags whenever the metrics are read: an index that is gone has none."""

    def __init__(self, lags: Callable[[], Iterable[tuple[Key, float]]]) -> None:
        self._lags = lags

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        words = (
            "Seconds since the oldest change of a source that can't be found in the index; 0: there is none."
        )
        family = GaugeMetricFamily("lateen_operator_index_lag_seconds", words, labels=["namespace", "name"])
        for key, seconds in self._lags():
            family.add_metric([key.namespace, key.name], seconds)
        yield family


def _version() -> str:
    try:
        return version("lateen")
    except PackageNotFoundError:
        return "unknown"
