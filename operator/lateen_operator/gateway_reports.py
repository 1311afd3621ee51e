# SPDX-License-Identifier: Apache-2.0
"""What all gateway replicas reported, as one; pure. `ray.py` asks them, plans read the result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lateen_api.gateway_report import LATENCY_BOUNDS, Facts, GatewayReport, Traffic, agreed


@dataclass(frozen=True)
class Merged:
    """What the gateway says as a whole."""

    catalogs: frozenset[str] = frozenset()
    """The catalogs that replicas serve, one where they agree; empty while one of them has none or doesn't say."""
    facts: Mapping[str, Facts] = field(default_factory=dict)
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    prompt_uses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def merged(reports: Mapping[str, GatewayReport] | None) -> Merged:
    """One report of all; `reports` is by replica, None where the gateway did not answer."""
    if not reports:
        return Merged()
    said = [reports[replica] for replica in sorted(reports)]
    catalogs = frozenset(report.catalog for report in said)
    return Merged(
        catalogs=catalogs if "" not in catalogs else frozenset(),
        facts={
            name: agreed([report.facts[name] for report in said if name in report.facts])
            for name in sorted({name for report in said for name in report.facts})
        },
        traffic={
            name: total(report.traffic[name] for report in said if name in report.traffic)
            for name in sorted({name for report in said for name in report.traffic})
        },
        prompt_uses=_uses(said),
    )


def _uses(said: Iterable[GatewayReport]) -> dict[str, dict[str, int]]:
    """The latest use of each revision of each prompt."""
    latest: dict[str, dict[str, int]] = {}
    for report in said:
        for prompt, revisions in report.prompt_uses.items():
            known = latest.setdefault(prompt, {})
            for revision, when in revisions.items():
                known[revision] = max(when, known.get(revision, 0))
    return latest


def total(parts: Iterable[Traffic]) -> Traffic:
    """The sum of several replicas' requests."""
    requests = errors = 0
    buckets = [0] * (len(LATENCY_BOUNDS) + 1)
    for part in parts:
        requests, errors = requests + part.requests, errors + part.errors
        for position, count in enumerate(part.latencies):
            buckets[position] += count
    return Traffic(requests=requests, errors=errors, latencies=buckets if any(buckets) else [])


def latency(traffic: Traffic, quantile: float) -> float | None:
    """Seconds within which that share of the requests was answered: the upper bound of the bucket it falls in.

    None before the first; infinity beyond the last bound.
    """
    wanted = quantile * sum(traffic.latencies)
    passed = 0
    for bound, count in zip((*LATENCY_BOUNDS, float("inf")), traffic.latencies, strict=False):
        passed += count
        if count and passed >= wanted:
            return bound
    return None
