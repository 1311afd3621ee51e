# SPDX-License-Identifier: Apache-2.0
"""How a new revision takes over from the one that serves. Pure; called by `plan/models.py`.

    Immediate   the new one starts beside the old one and takes everything once it is RUNNING
    Canary      RUNNING -> step 1 -> ... -> last step -> everything
                             |_________________|  does worse than `abort` allows: nothing, remembered as aborted
    Recreate    the new one takes the old one's place in the catalog, where requests wait for it; the old one is
                drained and removed; then the new one starts

Nothing is remembered between two looks: the step is read back from the deployed catalog (weight and since), and an
aborted revision from its ControllerRevision. So an operator that was killed goes on where it was.
"""

from dataclasses import dataclass, field

from lateen_api import catalog
from lateen_api.gateway_report import Traffic
from lateen_api.quantities import seconds
from lateen_api.scaling import Rollout, RolloutAbort, RolloutStep
from lateen_operator.gateway_reports import latency
from lateen_operator.plan.applications import DEPLOY_FAILED, RUNNING, UNHEALTHY
from lateen_operator.plan.problems import last_line
from lateen_operator.seams import ServeApplication, StoredRevision

LOOK_SECONDS = 1.0
"""How often a canary is judged."""


@dataclass(frozen=True)
class Change:
    """A model whose spec wants another revision than the one that serves."""

    rollout: Rollout
    wanted: catalog.Model
    """The entry of the wanted revision, were it alone."""
    present: ServeApplication | None
    """Its application; None while there is none."""
    main: catalog.Model
    """The entry that serves, as the deployed catalog has it."""
    stored: StoredRevision | None
    """The wanted revision's ControllerRevision."""
    served: catalog.Model | None
    """What the gateway serves right now; None while that is not known."""
    pinned: bool
    """Whether an index still embeds with the revision that serves."""
    traffic: Traffic = field(default_factory=Traffic)
    """The wanted revision's requests since its present weight began."""
    now: float = 0.0


@dataclass(frozen=True)
class Move:
    """What to do about a change."""

    entry: catalog.Model
    """What is to take requests; they wait where it does not run yet."""
    start: bool = True
    """Whether the wanted revision's application is to run."""
    words: str = ""
    """How far it is, for people."""
    abort: str = ""
    """Why the new revision is given up now."""
    again: float | None = None
    """Seconds until it is worth looking again."""


def move(change: Change) -> Move:
    """The next move; the same for the same world."""
    runs = change.present is not None and change.present.status == RUNNING
    strategy = change.rollout.strategy
    if strategy == "Canary":
        return _canary(change)
    if runs:
        return Move(change.wanted)
    if strategy == "Recreate" and not change.pinned:
        words = f"revision {change.main.revision} stops before revision {change.wanted.revision} starts"
        return Move(change.wanted, start=False, words=words, again=LOOK_SECONDS)
    return _starting(change)


def _alone(change: Change) -> catalog.Model:
    return change.main.model_copy(update={"canary": None})


def _starting(change: Change) -> Move:
    return Move(_alone(change), words=f"revision {change.wanted.revision} is starting")


def _canary(change: Change) -> Move:
    if change.stored is None:
        return _starting(change)
    if change.stored.aborted:
        return Move(_alone(change), start=False)
    status = change.present.status if change.present is not None else ""
    present = change.main.canary
    if present is None or present.application != change.wanted.application:
        return _step(change, 0) if status == RUNNING else _starting(change)
    why = fault(change.present, change.traffic, change.rollout)
    if why:
        return Move(_alone(change), start=False, abort=why)
    return _onward(change, present, may_go_on=status == RUNNING)


def fault(present: ServeApplication | None, traffic: Traffic, rollout: Rollout) -> str:
    """Why a canary is to be given up; empty when it is not. `present` is its application."""
    return _failure(present) or breach(traffic, rollout.abort or RolloutAbort())


def _failure(present: ServeApplication | None) -> str:
    if present is None or present.status not in (UNHEALTHY, DEPLOY_FAILED):
        return ""
    said = last_line("\n".join((present.message, *present.deployment_messages)))
    return f"its replicas fail: {said or present.status}"


def breach(traffic: Traffic, limits: RolloutAbort) -> str:
    """What `traffic` did worse than `limits` allow, with numbers; empty when it is good or too little to judge.

    The 95th percentile is the upper bound of the bucket it falls in, so that doubt speaks against the new revision.
    """
    if traffic.requests < limits.min_requests:
        return ""
    ratio, most = traffic.errors / traffic.requests, float(limits.max_error_ratio)
    if ratio > most:
        return f"{traffic.errors} of {traffic.requests} requests failed ({ratio:.1%}), {most:.1%} may"
    slow = latency(traffic, 0.95)
    if limits.max_latency_p95 is not None and slow is not None and slow > seconds(limits.max_latency_p95):
        return f"its 95th percentile is up to {slow:g}s in {traffic.requests} requests, {limits.max_latency_p95} may be"
    return ""


def _onward(change: Change, present: catalog.Canary, *, may_go_on: bool) -> Move:
    steps = change.rollout.steps
    here = next((number for number, step in enumerate(steps) if step.weight == present.weight), None)
    if here is None:  # the steps were changed meanwhile
        return _step(change, 0)
    left = present.since + seconds(steps[here].pause) - change.now
    if left > 0 or not may_go_on or not _is_watched(change, present):
        return _at(change, here, present, left)
    return Move(change.wanted) if here + 1 == len(steps) else _step(change, here + 1)


def _is_watched(change: Change, present: catalog.Canary) -> bool:
    """Whether the gateway has served this step: a step that nobody saw proves nothing."""
    return change.served is not None and change.served.canary == present


def _step(change: Change, number: int) -> Move:
    step: RolloutStep = change.rollout.steps[number]
    begun = catalog.Canary(
        revision=change.wanted.revision,
        application=change.wanted.application,
        weight=step.weight,
        since=int(change.now),
    )
    return _at(change, number, begun, float(seconds(step.pause)))


def _at(change: Change, number: int, canary: catalog.Canary, left: float) -> Move:
    steps = len(change.rollout.steps)
    words = (
        f"revision {canary.revision} takes {canary.weight} % of the requests, step {number + 1} of {steps}"
    )
    again = min(LOOK_SECONDS, left) if left > 0 else LOOK_SECONDS
    entry = change.main.model_copy(update={"canary": canary})
    return Move(entry, words=words, again=max(0.05, again))
