# SPDX-License-Identifier: Apache-2.0
"""How many replicas a model has, which of them a request goes to, and how a new revision takes over."""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api.quantities import Duration
from lateen_api.schema import SpecType, matching, rule, rules

RoutingStrategy = Literal["LeastLoaded", "PrefixAware", "ResponseTime", "RoundRobin"]
RolloutStrategy = Literal["Immediate", "Canary", "Recreate"]


class Autoscaling(SpecType):
    """A number of replicas that follows the load."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"),
        )
    }

    min_replicas: Annotated[int, Field(ge=0, le=256)] = 1
    """Fewest replicas. 0: an idle model has none, and the first request waits until one has started."""

    max_replicas: Annotated[int, Field(ge=1, le=256)]
    """Most replicas."""

    target_ongoing_requests: Annotated[int, Field(ge=1, le=4096)] = 8
    """Requests, waiting ones included, that each replica should have; the number of replicas follows from it."""

    upscale_delay: Duration = "1s"
    """How long the load must ask for more replicas before they start."""

    downscale_delay: Duration = "60s"
    """How long the load must ask for fewer replicas before they stop."""

    scale_to_zero_delay: Duration = "5m"
    """How long a model must be idle before its last replica stops; only with minReplicas: 0."""


class Routing(SpecType):
    """How a request's replica is chosen."""

    strategy: RoutingStrategy = "LeastLoaded"
    """`LeastLoaded`: the replica with the fewest requests. `PrefixAware`: conversations that begin alike go to the same
    replica, where their beginning has been read already, unless it has too much to do. `ResponseTime`: the replica that
    has answered fastest lately. `RoundRobin`: each in turn."""


class RolloutStep(SpecType):
    """One step of a canary."""

    weight: Annotated[int, Field(ge=1, le=99)]
    """Percent of the requests that the new revision takes."""

    pause: Duration = "60s"
    """How long it is watched before the next step."""


_RATIO = r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$"


class RolloutAbort(SpecType):
    """When a canary is given up and all requests go to the old revision again."""

    max_error_ratio: Annotated[
        str, matching(_RATIO, 'must be a number in quotes from "0" to "1", such as "0.02"', max_length=6)
    ] = "0.05"
    """Share of the new revision's requests that may fail by its own fault (5xx)."""

    max_latency_p95: Duration | None = None
    """95th percentile of the new revision's time to the first token (or to the reply, without a stream)."""

    min_requests: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Requests the new revision must have answered before it is judged."""


class Rollout(SpecType):
    """How a new revision takes over from the one that serves."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.strategy != 'Canary' || (has(self.steps) && self.steps.size() > 0)",
                "strategy: Canary needs steps, such as [{weight: 10, pause: 60s}]",
            ),
            rule(
                "self.strategy == 'Canary' || !has(self.steps) || self.steps.size() == 0",
                "steps are only for strategy: Canary",
            ),
            rule("self.strategy == 'Canary' || !has(self.abort)", "abort is only for strategy: Canary"),
            rule(
                "!has(self.steps) || self.steps.size() < 2"
                " || self.steps.all(i, self.steps.filter(j, j.weight == i.weight).size() == 1)",
                "every step needs a weight of its own",
            ),
        )
    }

    strategy: RolloutStrategy = "Immediate"
    """`Immediate`: the new revision starts beside the old one and takes all requests once it serves. `Canary`: it takes
    them in steps, is watched, and is given up when it does worse than `abort` allows. `Recreate`: the old one stops
    first, for models that have no room for two."""

    steps: Annotated[list[RolloutStep], Field(max_length=16)] = Field(default=[])
    """Canary: the steps, in order; after the last one the new revision takes everything."""

    abort: RolloutAbort | None = None
    """Canary: when it is given up. Default: more than 5 % of at least 10 requests fail."""
