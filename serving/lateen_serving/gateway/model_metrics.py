# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of how a gateway replica's requests fare at the models. Part of `metrics.py`; written by `calling.py`."""

from collections.abc import Collection
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

Outcome = Literal["answered", "failed", "refused"]
"""`refused`: a wrong request or a full queue; `failed`: everything else that is not an answer."""

_WAIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OUTCOMES: tuple[Outcome, ...] = ("answered", "failed", "refused")


class ModelMetrics:
    """Counts by model and revision; what has left the catalog leaves the metrics too, so they are as bounded as it."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self._replica = replica
        self._models: set[str] = set()
        self._revisions: set[tuple[str, str]] = set()
        self._ended = Counter(
            "lateen_gateway_model_requests",
            "Requests by the revision that took them and how they ended: answered, failed, refused.",
            ["replica", "model", "revision", "outcome"],
            registry=registry,
        )
        labels = ["replica", "model"]
        self._waited = Histogram(
            "lateen_gateway_queue_wait_seconds",
            "Time until a replica began to work on a request.",
            labels,
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self._timed_out = Counter(
            "lateen_gateway_queue_timeouts",
            "Requests that no replica began in time.",
            labels,
            registry=registry,
        )
        self._retried = Counter(
            "lateen_gateway_model_retries", "Tries after the first one.", labels, registry=registry
        )

    def waited(self, model: str, seconds: float) -> None:
        """A replica began to work on a request after so many seconds."""
        self._models.add(model)
        self._waited.labels(self._replica, model).observe(seconds)

    def timed_out(self, model: str) -> None:
        """No replica began to work on a request within the queue timeout."""
        self._models.add(model)
        self._timed_out.labels(self._replica, model).inc()

    def retried(self, model: str) -> None:
        """A request is tried again."""
        self._models.add(model)
        self._retried.labels(self._replica, model).inc()

    def ended(self, model: str, revision: str, outcome: Outcome) -> None:
        """A request to a revision has ended."""
        self._revisions.add((model, revision))
        self._ended.labels(self._replica, model, revision, outcome).inc()

    def keep(self, revisions: Collection[tuple[str, str]]) -> None:
        """Forget all models and revisions but these pairs of the two."""
        for model, revision in self._revisions.difference(revisions):
            for outcome in _OUTCOMES:
                self._ended.remove(self._replica, model, revision, outcome)
        for model in self._models.difference(model for model, _ in revisions):
            for metric in (self._waited, self._timed_out, self._retried):
                metric.remove(self._replica, model)
        self._revisions.intersection_update(revisions)
        self._models.intersection_update(model for model, _ in revisions)
