# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of one gateway replica, shown at `/metrics`.

Every series carries the replica's id, because a scrape through the load balancer reaches any one of them.
"""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lateen_serving.gateway.model_metrics import ModelMetrics

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counts requests, tokens and times. No label holds anything a caller can choose freely.

    Attributes:
        models: How requests fare at the models.
        replica: Id of this gateway replica.
        registry: Where the metrics are registered.

    """

    def __init__(self, replica: str) -> None:
        self.registry = CollectorRegistry()
        self.replica = replica
        self._requests = Counter(
            "lateen_gateway_requests",
            "Requests by route and status.",
            ["replica", "endpoint", "status"],
            registry=self.registry,
        )
        self._duration = self._histogram("request_duration", "Time from request to the end of the reply.")
        self._first_token = self._histogram("time_to_first_token", "Time from request to the first tokens.")
        self._tokens = Counter(
            "lateen_gateway_tokens",
            "Tokens read (in) and generated (out) by models.",
            ["replica", "model", "direction"],
            registry=self.registry,
        )
        self._cuts = Counter(
            "lateen_prompt_cut",
            "Prompts that lost something to fit their context window, by what it was: a variable or the conversation.",
            ["replica", "prompt", "what"],
            registry=self.registry,
        )
        self._cut_names: set[tuple[str, str]] = set()
        self.models = ModelMetrics(self.registry, replica)
        ongoing = Gauge("lateen_gateway_ongoing_requests", "Now.", ["replica"], registry=self.registry)
        self.ongoing = ongoing.labels(replica)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"lateen_gateway_{name}_seconds",
            text,
            ["replica", "endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )

    def ended(self, endpoint: str, status: int, seconds: float, first_token: float | None) -> None:
        """Count one request; `first_token` is seconds from its start, None without generation."""
        self._requests.labels(self.replica, endpoint, str(status)).inc()
        self._duration.labels(self.replica, endpoint).observe(seconds)
        if first_token is not None:
            self._first_token.labels(self.replica, endpoint).observe(first_token)

    def tokens(self, model: str, read: int, generated: int) -> None:
        """Count tokens of one request; `model` is an id of the catalog."""
        if read:
            self._tokens.labels(self.replica, model, "in").inc(read)
        if generated:
            self._tokens.labels(self.replica, model, "out").inc(generated)

    def cut(self, prompt: str, what: Collection[str]) -> None:
        """Count what a prompt of the catalog lost: names of its variables, or `conversation`."""
        for name in what:
            self._cuts.labels(self.replica, prompt, name).inc()
            self._cut_names.add((prompt, name))

    def keep_prompts(self, prompts: Collection[str]) -> None:
        """Forget all prompts but these."""
        for prompt, name in [pair for pair in self._cut_names if pair[0] not in prompts]:
            self._cuts.remove(self.replica, prompt, name)
            self._cut_names.remove((prompt, name))

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
