# SPDX-License-Identifier: Apache-2.0
"""What the status of a ModelDeployment says while its plan is carried out. Pure; called by `reconcile/models.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lateen_api import catalog
from lateen_api.conditions import ConditionType, Reason
from lateen_api.model_status import LastFailure
from lateen_operator.plan import placement
from lateen_operator.plan.model_fields import Figures
from lateen_operator.plan.models import ModelPlan, users
from lateen_operator.plan.world import World
from lateen_operator.seams import Backoff, Event, Resource, Wish
from lateen_operator.status import MAX_MESSAGE, Report, Verdict, ready_condition, timestamp

FOLLOW_SECONDS = 2.0
"""How often an autoscaled model is looked at, so that its status follows the load."""

_FAILURES = {
    Reason.SOURCE_NOT_FOUND, Reason.SOURCE_UNAVAILABLE, Reason.SOURCE_UNAUTHORIZED, Reason.SOURCE_REFUSED,
    Reason.DIGEST_MISMATCH, Reason.CACHE_FULL, Reason.MODEL_UNSUPPORTED, Reason.REPLICA_FAILED,
    Reason.UNSCHEDULABLE, Reason.ROLLOUT_ABORTED,
}  # fmt: skip
"""Reasons that are kept as `status.lastFailure`."""


@dataclass(frozen=True)
class _Said:
    """The Ready condition, and what goes with it."""

    ready: Verdict
    reconciling: bool = False
    stalled: bool = False
    again: Wish = None


def report(resource: Resource, made: ModelPlan, world: World) -> Report:
    """What the status of `resource` says while `made` is carried out."""
    figures = Figures(resource, made, world)
    said = _said(resource, made, figures)
    return Report(
        said.ready,
        reconciling=said.reconciling,
        stalled=said.stalled,
        fields={**figures.values(), **_last_failure(figures, said.ready, world.now)},
        more=_more(made, figures),
        again=said.again,
        events=_events(resource, figures, said.ready),
    )


def _more(made: ModelPlan, figures: Figures) -> dict[ConditionType, Verdict]:
    """The kind's own conditions."""
    more = {}
    if made.words:
        more[ConditionType.PROGRESSING] = Verdict("True", Reason.PROGRESSING, made.words)
    short = _short(made, figures)
    if short is not None:
        more[ConditionType.SCALED] = short
    return more


def _short(made: ModelPlan, figures: Figures) -> Verdict | None:
    """What further replicas lack, while some serve."""
    present, spec, world = figures.present, made.spec, figures.world
    is_wanted = present is not None and made.wanted is not None and made.wanted["name"] == present.name
    if present is None or spec is None or not is_wanted or not figures.ready:
        return None
    found = placement.shortage(spec.resources, present, world)
    if found is None:
        return None
    message = f"{figures.ready} of {figures.target} replicas serve; {found.message}"
    return Verdict("False", found.reason, message)


def _said(resource: Resource, made: ModelPlan, figures: Figures) -> _Said:
    entry, problem = made.entry, made.problem
    if resource.deleting:
        waits = ", ".join(users(resource, figures.world))
        message = f"deletion waits for RAGIndex {waits}, which embeds with this model"
        return _Said(Verdict("False", Reason.IN_USE, message), stalled=True)
    if problem is not None and problem.reason in (Reason.SUSPENDED, Reason.NO_REPLICAS):
        return _Said(problem)
    if problem is not None:
        keeps = f" Revision {entry.revision} keeps serving." if entry and figures.ready else ""
        verdict = Verdict("False", problem.reason, problem.message + keeps)
        return _Said(verdict, stalled=True, again=made.again or 2.0)
    if entry is None or made.words:
        verdict = Verdict("False", Reason.PROGRESSING, made.words or "nothing serves yet")
        return _Said(verdict, reconciling=True, again=made.again or 0.5)
    served = figures.world.answering
    if served is None or entry not in served.models:
        verdict = Verdict("False", Reason.PROGRESSING, "waiting for the gateway to take the catalog")
        return _Said(verdict, reconciling=True, again=0.3)
    return _serving(made, entry, figures)


def _serving(made: ModelPlan, entry: catalog.Model, figures: Figures) -> _Said:
    scaling = made.spec.autoscaling if made.spec else None
    sleeps = scaling is not None and scaling.min_replicas == 0
    # All at the same moments: looks that coincide share one pass over the world.
    follow = FOLLOW_SECONDS - figures.world.now % FOLLOW_SECONDS if scaling is not None else None
    if sleeps and figures.target == 0:
        message = (
            f"serving as model {entry.id!r}; it is idle, the next request waits until a replica has started"
        )
        return _Said(Verdict("True", Reason.SCALED_TO_ZERO, message), again=follow)
    if figures.ready == 0:
        return _without_replicas(sleeps, entry, figures)
    return _adapted(entry, figures) or _Said(
        Verdict("True", Reason.READY, f"serving as model {entry.id!r}"),
        reconciling=figures.ready < figures.target,
        again=_next_look(made, figures, follow),
    )


def _next_look(made: ModelPlan, figures: Figures, follow: float | None) -> Wish:
    """Replicas that start are looked at often; those that lack something may do so for days."""
    if figures.ready >= figures.target:
        return follow
    short = _short(made, figures)
    return 1.0 if short is None else follow or Backoff(1.0, 30.0, short.reason.value)


def _without_replicas(sleeps: bool, entry: catalog.Model, figures: Figures) -> _Said:
    failed = figures.present is not None and figures.present.failed_replicas > 0
    if sleeps and not failed:
        message = f"serving as model {entry.id!r}; a request has woken it, its first replica is starting"
        return _Said(Verdict("True", Reason.WARMING_UP, message), reconciling=True, again=0.5)
    verdict = Verdict("False", Reason.REPLICA_FAILED, "no replica serves; Ray restarts them")
    return _Said(verdict, reconciling=True, again=1.0)


def _adapted(entry: catalog.Model, figures: Figures) -> _Said | None:
    """What is wrong with the adapters; None when nothing is."""
    unready = [each for each in figures.adapters if not each.ready]
    failed = [each for each in unready if each.reason != Reason.PROGRESSING.value]
    if failed:
        told = "; ".join(f"{each.name}: {each.message} ({each.reason})" for each in failed)
        message = f"serving as model {entry.id!r}, but not its adapters {told}"
        return _Said(Verdict("False", Reason.ADAPTER_FAILED, message), stalled=True, again=2.0)
    if not unready:
        return None
    told = "; ".join(f"{each.name}: {each.message}" for each in unready)
    message = f"serving as model {entry.id!r}; not yet its adapters {told}"
    return _Said(Verdict("False", Reason.PROGRESSING, message), reconciling=True, again=1.0)


def _last_failure(figures: Figures, ready: Verdict, now: float) -> Mapping[str, Any]:
    """The last failure; one that goes on keeps the time at which it was seen first."""
    before = figures.before.last_failure
    problem = figures.made.problem or ready
    if ready.status == "False" and problem.reason in _FAILURES:
        message = problem.message[:MAX_MESSAGE]
        if before is None or (before.reason, before.message) != (problem.reason.value, message):
            before = LastFailure(reason=problem.reason.value, message=message, time=timestamp(now))
    return {"lastFailure": before.dump()} if before is not None else {}


def _events(resource: Resource, figures: Figures, ready: Verdict) -> tuple[Event, ...]:
    events = []
    before, now = figures.before.revision, figures.revision
    if before is not None and now is not None and before != now:
        events.append(Event("Normal", Reason.ROLLED_OUT.value, f"revision {now} serves"))
    canary = figures.served.canary if figures.served else None
    known = {share.revision: share.weight for share in figures.before.traffic or []}
    if canary is not None and known.get(canary.revision) != canary.weight:
        message = f"revision {canary.revision} takes {canary.weight} % of the requests"
        events.append(Event("Normal", Reason.CANARY_STEP.value, message))
    scaled = figures.scaled()
    if scaled is not None:
        message = f"{scaled.from_} -> {scaled.to} replicas: {scaled.reason}"
        events.append(Event("Normal", Reason.SCALED.value, message))
    told = ready_condition(resource)
    given_up = ready.reason is Reason.ROLLOUT_ABORTED
    if given_up and (told.get("reason"), told.get("message")) != (
        ready.reason.value,
        ready.message[:MAX_MESSAGE],
    ):
        events.append(Event("Warning", Reason.ROLLED_BACK.value, ready.message))
    return tuple(events)
