# SPDX-License-Identifier: Apache-2.0
"""Status documents and the Events that go with them, computed from verdicts. Pure; called by `reconcile/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from lateen_api.conditions import ConditionType, Reason
from lateen_operator.seams import Event, Resource, Wish

MAX_MESSAGE = 1024
"""Longest condition message in characters; replica errors can be pages long."""


@dataclass(frozen=True)
class Verdict:
    """What one condition should say."""

    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


@dataclass(frozen=True)
class Report:
    """What a plan has to say about one resource."""

    ready: Verdict
    reconciling: bool = False
    """Work is under way (kstatus `Reconciling`)."""
    stalled: bool = False
    """Only a change can help (kstatus `Stalled`)."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The kind's own status fields, in their outside spelling; None values are left out."""
    more: Mapping[ConditionType, Verdict] = field(default_factory=dict)
    """The kind's own conditions."""
    again: Wish = None
    """When it is worth looking again."""
    events: tuple[Event, ...] = ()
    """Events besides the one for a changed Ready condition."""


def timestamp(unix: float) -> str:
    """RFC 3339 in UTC with seconds, as Kubernetes writes times."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(text: str) -> float:
    """Unix time of an RFC 3339 timestamp; raises ValueError for anything else."""
    return datetime.fromisoformat(text).timestamp()


def document(resource: Resource, report: Report, now: float) -> dict[str, Any]:
    """The whole status of `resource`; equal to the present one when nothing changed."""
    wanted: dict[ConditionType, Verdict] = {ConditionType.READY: report.ready}
    if report.reconciling:
        wanted[ConditionType.RECONCILING] = Verdict("True", report.ready.reason, report.ready.message)
    if report.stalled:
        wanted[ConditionType.STALLED] = Verdict("True", report.ready.reason, report.ready.message)
    wanted.update(report.more)
    before = {item.get("type"): item for item in resource.status.get("conditions") or []}
    conditions = [
        _condition(kind, verdict, before.get(kind.value), resource.generation, now)
        for kind, verdict in wanted.items()
    ]
    fields = {name: value for name, value in report.fields.items() if value is not None}
    return {"observedGeneration": resource.generation, "conditions": conditions, **fields}


def _condition(
    kind: ConditionType, verdict: Verdict, before: Mapping[str, Any] | None, generation: int, now: float
) -> dict[str, Any]:
    unchanged = before is not None and before.get("status") == verdict.status
    return {
        "type": kind.value,
        "status": verdict.status,
        "reason": verdict.reason.value,
        "message": verdict.message[:MAX_MESSAGE],
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if unchanged and before else timestamp(now),
    }


def ready_condition(resource: Resource) -> Mapping[str, Any]:
    """The present Ready condition; empty before the first reconcile."""
    conditions: Sequence[Mapping[str, Any]] = resource.status.get("conditions") or []
    return next((item for item in conditions if item.get("type") == ConditionType.READY.value), {})


def unready_seconds(resource: Resource, now: float) -> float:
    """For how long the resource has not been Ready; 0 when it is, or is new."""
    condition = ready_condition(resource)
    if not condition or condition.get("status") == "True":
        return 0.0
    return max(0.0, now - unix(condition["lastTransitionTime"]))


def events(resource: Resource, report: Report) -> tuple[Event, ...]:
    """Events to post: the report's own, and one when Ready changed its status or reason."""
    before = ready_condition(resource)
    ready = report.ready
    if (before.get("status"), before.get("reason")) == (ready.status, ready.reason.value):
        return report.events
    failing = ready.status == "False" and not report.reconciling
    kind: Literal["Normal", "Warning"] = "Warning" if failing or report.stalled else "Normal"
    return (*report.events, Event(kind, ready.reason.value, ready.message[:MAX_MESSAGE]))
