# SPDX-License-Identifier: Apache-2.0
"""What a ModelDeployment becomes: its Serve application, its place in the catalog, its status. Pure.

A revision is an application of its own. The live one stays in the catalog until the wanted one is RUNNING:

    wanted app:   absent -> DEPLOYING -> RUNNING ----------------> in the catalog
    old app:      in the catalog ------------------> left out --> drained --> removed
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lateen_api import catalog, names
from lateen_api.conditions import Reason
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.quantities import quantity, seconds
from lateen_api.serve_config import MODEL_IMPORT_PATH, ModelArguments
from lateen_operator.plan.problems import backoff, describe, failure, last_line
from lateen_operator.plan.world import World
from lateen_operator.seams import Event, Resource, ServeApplication
from lateen_operator.status import Report, Verdict

RUNNING = "RUNNING"
DEPLOY_FAILED = "DEPLOY_FAILED"


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
    retry_in: float | None = None
    """Seconds until a failed start is tried again."""


def plan(resource: Resource, world: World) -> ModelPlan:
    """Which application `resource` wants and which one takes its traffic."""
    try:
        spec = ModelDeploymentSpec.model_validate(resource.spec)
    except ValidationError as error:
        problem = Verdict("False", Reason.INVALID_SPEC, describe(error))
        return ModelPlan(_present_entry(resource, world), None, problem=problem)
    if resource.deleting and not users(resource, world):
        return ModelPlan(None, None, spec)
    if spec.suspend:
        return _suspended(resource, spec, world)
    if spec.replicas == 0:
        verdict = Verdict("False", Reason.NO_REPLICAS, "spec.replicas is 0: nothing is served")
        return ModelPlan(None, None, spec, verdict)
    return _served(resource, spec, world)


def users(resource: Resource, world: World) -> list[str]:
    """Names of the RAGIndexes that embed with this model and are here to stay."""
    return [
        index.key.name
        for index in world.indexes
        if not index.deleting
        and index.key.namespace == resource.key.namespace
        and ((index.spec.get("embedding") or {}).get("modelRef") or {}).get("name") == resource.key.name
    ]


def _served(resource: Resource, spec: ModelDeploymentSpec, world: World) -> ModelPlan:
    name = application_name(resource, spec)
    present = world.serve.applications.get(name)
    attempt, retry_in = _attempt(present, world.now)
    wanted = application(resource, spec, attempt)
    entry = _entry(resource, spec, name, present) or _present_entry(resource, world)
    return ModelPlan(entry, wanted, spec, _problem(spec, present, world), retry_in)


def _suspended(resource: Resource, spec: ModelDeploymentSpec, world: World) -> ModelPlan:
    entry = _present_entry(resource, world)
    verdict = Verdict(
        "True" if entry else "False", Reason.SUSPENDED, "spec.suspend is true: changes are ignored"
    )
    present = world.serve.applications.get(application_name(resource, spec))
    return ModelPlan(entry, present.config if present else None, spec, verdict)


def application_name(resource: Resource, spec: ModelDeploymentSpec) -> str:
    """The Serve application of the revision that `spec` describes."""
    return names.application(resource.key.namespace, resource.key.name, spec.revision())


def application(resource: Resource, spec: ModelDeploymentSpec, attempt: int) -> dict[str, Any]:
    """The Serve config entry of the revision that `spec` describes."""
    arguments = ModelArguments(
        id=names.client_id(resource.key.namespace, resource.key.name),
        task=spec.task,
        uri=spec.source.uri,
        engine="transformers",
        dtype=spec.engine.dtype,
        max_model_len=spec.engine.max_model_len,
        threads=max(1, int(quantity(spec.resources.cpu))),
        attempt=attempt,
    )
    deployment = {
        "name": names.MODEL_DEPLOYMENT,
        "num_replicas": spec.replicas,
        "max_ongoing_requests": spec.limits.max_ongoing_requests,
        "max_queued_requests": spec.limits.max_queued_requests,
        "graceful_shutdown_timeout_s": float(seconds(spec.limits.request_timeout)),
        "ray_actor_options": _actor_options(spec),
    }
    return {
        "name": application_name(resource, spec),
        "route_prefix": None,
        "import_path": MODEL_IMPORT_PATH,
        "args": arguments.dump(),
        "deployments": [deployment],
    }


def _actor_options(spec: ModelDeploymentSpec) -> dict[str, float]:
    options = {"num_cpus": quantity(spec.resources.cpu), "memory": quantity(spec.resources.memory)}
    gpus = float(spec.resources.gpu)
    return {**options, "num_gpus": gpus} if gpus else options


def _attempt(present: ServeApplication | None, now: float) -> tuple[int, float | None]:
    if present is None or present.config is None:
        return 0, None
    attempt = int((present.config.get("args") or {}).get("attempt", 0))
    if present.status != DEPLOY_FAILED:
        return attempt, None
    due = present.deployed_at + backoff(attempt)
    return (attempt + 1, None) if now >= due else (attempt, due - now)


def _entry(
    resource: Resource, spec: ModelDeploymentSpec, name: str, present: ServeApplication | None
) -> catalog.Model | None:
    if present is None or present.status != RUNNING:
        return None
    return catalog.Model(
        id=names.client_id(resource.key.namespace, resource.key.name),
        task=spec.task,
        revision=spec.revision(),
        application=name,
        created=resource.created,
        request_timeout_seconds=seconds(spec.limits.request_timeout),
    )


def _present_entry(resource: Resource, world: World) -> catalog.Model | None:
    """The deployed catalog's entry, as long as its application is still there."""
    wanted = names.client_id(resource.key.namespace, resource.key.name)
    deployed = world.deployed_catalog
    for entry in deployed.models if deployed else []:
        if entry.id == wanted and entry.application in world.serve.applications:
            return entry
    return None


def _problem(spec: ModelDeploymentSpec, present: ServeApplication | None, world: World) -> Verdict | None:
    unschedulable = _unschedulable(spec, world.serve.total_resources)
    if present is None or present.status == RUNNING:
        return unschedulable
    text = "\n".join((present.message, *present.deployment_messages))
    found = failure(text) or unschedulable
    if found is not None or present.status not in (DEPLOY_FAILED, "UNHEALTHY"):
        return found
    return Verdict("False", Reason.REPLICA_FAILED, last_line(text) or "replicas fail to start")


def _unschedulable(spec: ModelDeploymentSpec, total: Mapping[str, float]) -> Verdict | None:
    wanted = {"CPU": quantity(spec.resources.cpu), "GPU": float(spec.resources.gpu)}
    lacking = [
        f"{name}: a replica asks for {amount:g}, the whole cluster has {total.get(name, 0.0):g}"
        for name, amount in wanted.items()
        if total and amount > total.get(name, 0.0)
    ]
    return Verdict("False", Reason.UNSCHEDULABLE, "; ".join(lacking)) if lacking else None


def report(resource: Resource, made: ModelPlan, world: World) -> Report:
    """What the status of `resource` says while `made` is carried out."""
    fields = _fields(resource, made, world)
    entry, problem = made.entry, made.problem
    if resource.deleting:
        message = (
            f"deletion waits for RAGIndex {', '.join(users(resource, world))}, which embeds with this model"
        )
        return Report(Verdict("False", Reason.IN_USE, message), stalled=True, fields=fields)
    if problem is not None and problem.reason in (Reason.SUSPENDED, Reason.NO_REPLICAS):
        return Report(problem, fields=fields)
    if problem is not None:
        keeps = f" Revision {entry.revision} keeps serving." if entry else ""
        verdict = Verdict("False", problem.reason, problem.message + keeps)
        return Report(verdict, stalled=True, fields=fields, again=made.retry_in or 2.0)
    wanted = made.wanted["name"] if made.wanted else ""
    if entry is None or entry.application != wanted:
        verdict = Verdict("False", Reason.PROGRESSING, f"application {wanted} is starting")
        return Report(verdict, reconciling=True, fields=fields, again=0.5)
    served = world.served_catalog
    if served is None or entry not in served.models:
        verdict = Verdict("False", Reason.PROGRESSING, "waiting for the gateway to take the catalog")
        return Report(verdict, reconciling=True, fields=fields, again=0.3)
    return _settled(resource, made, entry, fields)


def _settled(resource: Resource, made: ModelPlan, entry: catalog.Model, fields: Mapping[str, Any]) -> Report:
    ready, total = fields["readyReplicas"], made.spec.replicas if made.spec else 0
    events: tuple[Event, ...] = ()
    if resource.status.get("revision") not in (None, entry.revision):
        events = (Event("Normal", Reason.ROLLED_OUT.value, f"revision {entry.revision} serves"),)
    if ready == 0:
        verdict = Verdict("False", Reason.REPLICA_FAILED, "no replica serves; Ray restarts them")
        return Report(verdict, reconciling=True, fields=fields, again=1.0, events=events)
    verdict = Verdict("True", Reason.READY, f"serving as model {entry.id!r}")
    settled = ready == total
    return Report(
        verdict, reconciling=not settled, fields=fields, again=None if settled else 1.0, events=events
    )


def _fields(resource: Resource, made: ModelPlan, world: World) -> dict[str, Any]:
    application, revision = _serving(resource, world)
    present = world.serve.applications.get(application or "")
    return {
        "modelId": names.client_id(resource.key.namespace, resource.key.name),
        "revision": revision,
        "application": application,
        "engine": "transformers" if made.spec else None,
        "replicas": made.spec.replicas if made.spec else None,
        "readyReplicas": present.running_replicas if present else 0,
        "selector": f"lateen.dev/model={resource.key.name}",
    }


def _serving(resource: Resource, world: World) -> tuple[str | None, str | None]:
    """Application and revision that clients are served; the last known ones while the gateway does not say."""
    if world.served_catalog is None:
        return resource.status.get("application"), resource.status.get("revision")
    wanted = names.client_id(resource.key.namespace, resource.key.name)
    entry = next((entry for entry in world.served_catalog.models if entry.id == wanted), None)
    return (entry.application, entry.revision) if entry else (None, None)
