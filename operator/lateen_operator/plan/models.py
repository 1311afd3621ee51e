# SPDX-License-Identifier: Apache-2.0
"""What a ModelDeployment becomes: its Serve applications, its place in the catalog, its history. Pure.

A revision is an application of its own. The live one stays in the catalog until the wanted one takes over:

    wanted app:   absent -> DEPLOYING -> RUNNING -> (canary) ------> in the catalog
    old app:      in the catalog ----------------------------> left out --> drained --> removed

`plan/rollouts.py` decides when, `plan/applications.py` writes the config, `plan/model_status.py` tells it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from lateen_api import catalog, names
from lateen_api.conditions import Reason
from lateen_api.gateway_report import Traffic
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.quantities import seconds
from lateen_operator.plan import adapters, applications, model_revisions, placement, rollouts
from lateen_operator.plan.applications import DEPLOY_FAILED, RUNNING, UNHEALTHY
from lateen_operator.plan.model_revisions import HistoryPlan
from lateen_operator.plan.problems import backoff, describe, failure, last_line
from lateen_operator.plan.world import World
from lateen_operator.seams import Resource, ServeApplication
from lateen_operator.status import Verdict


@dataclass(frozen=True)
class Abort:
    """A revision whose rollout is given up."""

    name: str
    """Its ControllerRevision."""
    why: str


@dataclass(frozen=True)
class ModelPlan:
    """What to do about one ModelDeployment."""

    entry: catalog.Model | None
    """Its place in the catalog; None while nothing can serve."""
    wanted: Mapping[str, Any] | None
    """The Serve config entry of the wanted revision; None when none is wanted."""
    spec: ModelDeploymentSpec | None = None
    problem: Verdict | None = None
    """Why the present spec is not what serves."""
    old: Mapping[str, Any] | None = None
    """The Serve config entry of the revision that serves until the wanted one does."""
    words: str = ""
    """How far a new revision is on its way, for people; empty when none is."""
    again: float | None = None
    """Seconds until it is worth looking again."""
    abort: Abort | None = None
    """To be written down before the config is applied."""
    history: HistoryPlan = field(default_factory=HistoryPlan)


def plan(resource: Resource, world: World) -> ModelPlan:
    """Which applications `resource` wants and which of them take its traffic."""
    if resource.deleting and not users(resource, world):
        return ModelPlan(None, None)
    try:
        spec = ModelDeploymentSpec.model_validate(resource.spec)
    except ValidationError as error:
        problem = Verdict("False", Reason.INVALID_SPEC, describe(error))
        return ModelPlan(_deployed(resource, world), None, problem=problem)
    if spec.suspend:
        return _suspended(resource, spec, world)
    if spec.replicas == 0:
        verdict = Verdict("False", Reason.NO_REPLICAS, "spec.replicas is 0: nothing is served")
        return ModelPlan(None, None, spec, verdict)
    obstacle = placement.malformed(spec.resources) or _missing_secrets(resource, spec, world)
    return _held(resource, spec, world, obstacle) if obstacle else _served(resource, spec, world)


def as_is(resource: Resource, world: World) -> ModelPlan:
    """What is deployed of `resource` already, for which no plan can be made."""
    return ModelPlan(_deployed(resource, world), None)


def users(resource: Resource, world: World) -> list[str]:
    """Names of the RAGIndexes that embed with this model and are here to stay."""
    return [
        index.key.name
        for index in world.indexes
        if not index.deleting
        and index.key.namespace == resource.key.namespace
        and ((index.spec.get("embedding") or {}).get("modelRef") or {}).get("name") == resource.key.name
    ]


def _suspended(resource: Resource, spec: ModelDeploymentSpec, world: World) -> ModelPlan:
    entry, abort = _frozen(resource, spec, world)
    verdict = Verdict(
        "True" if entry else "False", Reason.SUSPENDED, "spec.suspend is true: changes are ignored"
    )
    present = world.serve.applications.get(applications.name(resource, spec))
    return ModelPlan(entry, present.config if present else None, spec, verdict, abort=abort)


def _frozen(
    resource: Resource, spec: ModelDeploymentSpec, world: World
) -> tuple[catalog.Model | None, Abort | None]:
    """What serves while nothing is to change; a canary that does badly is given up all the same."""
    entry = _deployed(resource, world)
    if entry is None or entry.canary is None:
        return entry, None
    application = entry.canary.application
    traffic = world.serve.traffic.get(application, Traffic())
    why = rollouts.fault(world.serve.applications.get(application), traffic, spec.rollout)
    known = model_revisions.find(world.kept(resource), entry.canary.revision)
    if not why or known is None:
        return entry, None
    return entry.model_copy(update={"canary": None}), Abort(known.name, why)


def _missing_secrets(resource: Resource, spec: ModelDeploymentSpec, world: World) -> Verdict | None:
    missing = sorted(applications.secrets(resource, spec) & world.missing_secrets)
    listed = ", ".join(f"{namespace}/{name}" for namespace, name in missing)
    return Verdict("False", Reason.REFERENCE_NOT_FOUND, f"there is no Secret {listed}.") if missing else None


def _held(resource: Resource, spec: ModelDeploymentSpec, world: World, obstacle: Verdict) -> ModelPlan:
    """Everything stays as it is until the obstacle is gone."""
    present = world.serve.applications.get(applications.name(resource, spec))
    entry, abort = _frozen(resource, spec, world)
    return ModelPlan(entry, present.config if present else None, spec, obstacle, abort=abort)


def _served(resource: Resource, spec: ModelDeploymentSpec, world: World) -> ModelPlan:
    main = _deployed(resource, world)
    if main is None or main.application == applications.name(resource, spec):
        return _settled(resource, spec, world, main)
    return _changing(resource, spec, world, main)


def _settled(
    resource: Resource, spec: ModelDeploymentSpec, world: World, main: catalog.Model | None
) -> ModelPlan:
    """The wanted revision serves, or nothing does."""
    stored = world.kept(resource)
    known = model_revisions.find(stored, spec.revision())
    run, problem = spec, None
    if main is None and known is not None and known.aborted and spec.rollout.strategy == "Canary":
        # Ray lost everything: what comes back is what served, not what was given up.
        run = model_revisions.last_good(spec, stored) or spec
        problem = _aborted(known.aborted) if run is not spec else None
    name = applications.name(resource, run)
    present = world.serve.applications.get(name)
    attempt, retry_in = _attempt(present, world.now)
    runs = present is not None and present.status == RUNNING
    entry = _alone(main, spec) if main is not None and not runs else None
    if runs or (main is None and _is_announced(resource, name, world)):
        entry = _entry(resource, run)
    entry = adapters.placed(entry, resource, spec, world) if entry is not None else None
    history = model_revisions.plan(spec, stored, _in_use(main))
    if main is None and _waits_for_room(resource, run, world, name):
        words = f"the old revision stops before revision {run.revision()} starts"
        return ModelPlan(entry, None, spec, words=words, again=rollouts.LOOK_SECONDS, history=history)
    wanted = applications.config(resource, run, present, attempt)
    found = problem or _problem(run, present, world, is_live=main is not None)
    words = "" if runs or main is not None else f"revision {run.revision()} is starting"
    return ModelPlan(entry, wanted, spec, found, words=words, again=retry_in, history=history)


def _is_announced(resource: Resource, name: str, world: World) -> bool:
    """Whether requests are told to wait for the application `name`: it takes another one's place, or was lost."""
    entry = _find(resource, world.deployed_catalog)
    return entry is not None and entry.application == name


def _waits_for_room(resource: Resource, spec: ModelDeploymentSpec, world: World, name: str) -> bool:
    """Whether an old revision must go before the application `name` may start."""
    if spec.rollout.strategy != "Recreate" or name in world.serve.applications:
        return False
    others = {each for each in world.serve.applications if applications.owned(resource, each)}
    return bool(others - _pinned(world))


def _changing(resource: Resource, spec: ModelDeploymentSpec, world: World, main: catalog.Model) -> ModelPlan:
    """Another revision serves than the one that is wanted."""
    change = _change(resource, spec, world, main)
    move, known, present = rollouts.move(change), change.stored, change.present
    attempt, retry_in = _attempt(present, world.now)
    aborted = move.abort or (known.aborted if known is not None and not move.start else "")
    keeps = move.entry.application == main.application
    serving = world.serve.applications[main.application]
    problem = _problem(spec, present, world) if move.start else None
    return ModelPlan(
        entry=adapters.placed(move.entry, resource, spec, world),
        wanted=applications.config(resource, spec, present, attempt) if move.start else None,
        spec=spec,
        problem=_aborted(aborted) if aborted and keeps else problem,
        old=applications.adapted(resource, spec, serving, present) if keeps else None,
        words=move.words,
        again=retry_in or move.again,
        abort=Abort(known.name, move.abort) if known is not None and move.abort else None,
        history=model_revisions.plan(spec, world.kept(resource), _in_use(main)),
    )


def _change(
    resource: Resource, spec: ModelDeploymentSpec, world: World, main: catalog.Model
) -> rollouts.Change:
    wanted = _entry(resource, spec)
    return rollouts.Change(
        rollout=spec.rollout,
        wanted=wanted,
        present=world.serve.applications.get(wanted.application),
        main=_in_place(main, spec),
        stored=model_revisions.find(world.kept(resource), wanted.revision),
        served=_find(resource, world.answering),
        pinned=main.application in _pinned(world),
        traffic=world.serve.traffic.get(wanted.application, Traffic()),
        now=world.now,
    )


def _aborted(why: str) -> Verdict:
    return Verdict("False", Reason.ROLLOUT_ABORTED, f"the new revision was given up: {why}.")


def _in_use(main: catalog.Model | None) -> frozenset[str]:
    return frozenset({main.revision}) if main is not None else frozenset()


def _pinned(world: World) -> frozenset[str]:
    """Applications that an index needs for its queries."""
    deployed = world.deployed_catalog
    return frozenset(entry.embedder_application for entry in deployed.indexes) if deployed else frozenset()


def _attempt(present: ServeApplication | None, now: float) -> tuple[int, float | None]:
    attempt = applications.attempt_of(present)
    if present is None or present.status != DEPLOY_FAILED:
        return attempt, None
    due = present.deployed_at + backoff(attempt)
    return (attempt + 1, None) if now >= due else (attempt, due - now)


def _entry(resource: Resource, spec: ModelDeploymentSpec) -> catalog.Model:
    """The catalog's entry for the revision that `spec` describes, once it is RUNNING."""
    return catalog.Model(
        id=names.client_id(resource.key.namespace, resource.key.name),
        task=spec.task,
        revision=spec.revision(),
        application=applications.name(resource, spec),
        created=resource.created,
        request_timeout_seconds=seconds(spec.limits.request_timeout),
        queue_timeout_seconds=seconds(spec.limits.queue_timeout),
        max_queued_requests=spec.limits.max_queued_requests,
        routing=spec.routing.strategy,
    )


def _in_place(entry: catalog.Model, spec: ModelDeploymentSpec) -> catalog.Model:
    """`entry` of whichever revision, with what the gateway takes without a new one."""
    limits = spec.limits
    return entry.model_copy(
        update={
            "request_timeout_seconds": seconds(limits.request_timeout),
            "queue_timeout_seconds": seconds(limits.queue_timeout),
            "max_queued_requests": limits.max_queued_requests,
            "routing": spec.routing.strategy,
        }
    )


def _alone(entry: catalog.Model, spec: ModelDeploymentSpec) -> catalog.Model:
    return _in_place(entry, spec).model_copy(update={"canary": None})


def _deployed(resource: Resource, world: World) -> catalog.Model | None:
    """The deployed catalog's entry, as long as its applications are still there."""
    entry = _find(resource, world.deployed_catalog)
    if entry is None or entry.application not in world.serve.applications:
        return None
    if entry.canary is not None and entry.canary.application not in world.serve.applications:
        return entry.model_copy(update={"canary": None})
    return entry


def _find(resource: Resource, document: catalog.Catalog | None) -> catalog.Model | None:
    wanted = names.client_id(resource.key.namespace, resource.key.name)
    return next((entry for entry in (document.models if document else ()) if entry.id == wanted), None)


def _problem(
    spec: ModelDeploymentSpec, present: ServeApplication | None, world: World, *, is_live: bool = False
) -> Verdict | None:
    """Why the revision that `spec` describes does not serve as it should. Of one that takes requests (`is_live`), replicas
    beyond those that serve are no problem of this kind: `model_status.py` tells of them.
    """
    unschedulable = placement.unschedulable(spec.resources, world.serve.nodes)
    if present is None:
        return unschedulable
    lacking = unschedulable or placement.crowded(spec.resources, present, world)
    if is_live and present.running_replicas:
        lacking = None
    if present.status == RUNNING:
        return lacking if present.running_replicas < present.target_replicas else None
    text = "\n".join((present.message, *present.deployment_messages))
    found = failure(text) or lacking
    if found is not None or present.status not in (DEPLOY_FAILED, UNHEALTHY):
        return found
    return Verdict("False", Reason.REPLICA_FAILED, last_line(text) or "replicas fail to start")
