# SPDX-License-Identifier: Apache-2.0
"""One model revision as an entry of the declarative Serve config. Pure; called by `plan/models.py`.

What Ray 2.60 makes of a changed entry decides what stands where:
- `args`, the router class and `ray_actor_options` restart replicas. Whatever of the spec is no revision therefore
  stays out of `args`, or is kept as the running application has it; the router's class is always the same. Where a
  restart can't be avoided (another Secret), new replicas start before old ones stop (`max_surge_percent`).
- `user_config`, limits and numbers of replicas reach running replicas in place.
- Any change of an entry takes an autoscaled deployment back to `initial_replicas`, busy or not. It is therefore
  set only until a revision has run for the first time: it has to prove itself with one replica, even where it may
  scale to zero.
"""

from typing import Any

from lateen_api import names
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.model_source import WeightsSource
from lateen_api.quantities import quantity, seconds
from lateen_api.scaling import Autoscaling
from lateen_api.serve_config import (
    MODEL_IMPORT_PATH,
    ROUTER_CLASS,
    AdapterArguments,
    ModelArguments,
    ModelUserConfig,
)
from lateen_operator.plan import placement
from lateen_operator.seams import Resource, ServeApplication

RUNNING = "RUNNING"
DEPLOY_FAILED = "DEPLOY_FAILED"
UNHEALTHY = "UNHEALTHY"
DELETING = "DELETING"

METRICS_INTERVAL_SECONDS = 0.25
LOOK_BACK_SECONDS = 2.0
"""What the autoscaler averages over; short, so that replicas follow the load within seconds (docs/bench.json)."""


def name(resource: Resource, spec: ModelDeploymentSpec) -> str:
    """The Serve application of the revision that `spec` describes."""
    return names.application(resource.key.namespace, resource.key.name, spec.revision())


def owned(resource: Resource, application: str) -> bool:
    """Whether `application` is a revision of `resource`."""
    owner = names.application_owner(application)
    return owner is not None and owner[:2] == (resource.key.namespace, resource.key.name)


def secrets(resource: Resource, spec: ModelDeploymentSpec) -> set[tuple[str, str]]:
    """Namespace and name of the Secrets that `spec` refers to."""
    sources: list[WeightsSource] = [spec.source, *spec.adapters]
    return {(resource.key.namespace, each.secret_ref.name) for each in sources if each.secret_ref}


def adapters(resource: Resource, spec: ModelDeploymentSpec) -> list[AdapterArguments]:
    """The adapters of `spec` as replicas are told of them, sorted by name."""
    return [
        AdapterArguments(
            name=adapter.name, uri=adapter.uri, digest=adapter.digest, secret=_secret(resource, adapter)
        )
        for adapter in sorted(spec.adapters, key=lambda adapter: adapter.name)
    ]


def config(
    resource: Resource, spec: ModelDeploymentSpec, present: ServeApplication | None, attempt: int
) -> dict[str, Any]:
    """The Serve config entry of the revision that `spec` describes.

    Args:
        resource: The ModelDeployment.
        spec: Its spec.
        present: The same application as Ray has it; None when it is not there.
        attempt: Retries of a failed start so far.

    """
    return {
        "name": name(resource, spec),
        "route_prefix": None,
        "import_path": MODEL_IMPORT_PATH,
        "args": _arguments(resource, spec, present, attempt).dump(),
        "deployments": [_deployment(resource, spec, present)],
    }


def adapted(
    resource: Resource, spec: ModelDeploymentSpec, old: ServeApplication, new: ServeApplication | None
) -> dict[str, Any] | None:
    """The entry of another revision that still serves, with all of `spec` that replicas take without a restart.

    An adapter whose weights changed together with the model's belongs to the new revision: the old one keeps what it
    has. That is told by the new application, which was made with both. None when Ray does not know the old config.

    Args:
        resource: The ModelDeployment.
        spec: Its spec, which describes the new revision.
        old: The application that serves.
        new: The application of the new revision; None while there is none.

    """
    if old.config is None:
        return None
    deployment = _present_deployment(old)
    for key in ("num_replicas", "autoscaling_config"):
        deployment.pop(key, None)
    present, fresh = _present_adapters(old), _present_adapters(new)
    chosen = [
        present[adapter.name]
        if adapter.name in present and (new is None or fresh.get(adapter.name) == adapter.dump())
        else adapter.dump()
        for adapter in adapters(resource, spec)
    ]
    in_place = _in_place(spec, old, chosen)
    return {**old.config, "deployments": [deployment | in_place]}


def attempt_of(present: ServeApplication | None) -> int:
    """Retries of a failed start that are behind `present`."""
    return int(_present_arguments(present).get("attempt", 0))


def _arguments(
    resource: Resource, spec: ModelDeploymentSpec, present: ServeApplication | None, attempt: int
) -> ModelArguments:
    limit = spec.limits.max_ongoing_requests
    if attempt == attempt_of(present):
        limit = int(_present_arguments(present).get("maxOngoingRequests", limit))
    memory = spec.engine.kv_cache_memory
    return ModelArguments(
        id=names.client_id(resource.key.namespace, resource.key.name),
        task=spec.task,
        uri=spec.source.uri,
        digest=spec.source.digest,
        secret=_secret(resource, spec.source),
        engine=spec.engine.type,
        dtype=spec.engine.dtype,
        max_model_len=spec.engine.max_model_len,
        kv_cache_bytes=None if memory is None else int(quantity(memory)),
        max_ongoing_requests=limit,
        threads=max(1, int(quantity(spec.resources.cpu))),
        attempt=attempt,
    )


def _present_arguments(present: ServeApplication | None) -> dict[str, Any]:
    config = present.config if present is not None else None
    return dict((config or {}).get("args") or {})


def _present_deployment(present: ServeApplication | None) -> dict[str, Any]:
    config = present.config if present is not None else None
    return dict(((config or {}).get("deployments") or [{}])[0])


def _present_adapters(present: ServeApplication | None) -> dict[str, dict[str, Any]]:
    """Adapters of an application by name, as its config has them."""
    user_config = _present_deployment(present).get("user_config") or {}
    return {each["name"]: each for each in user_config.get("adapters") or []}


def _secret(resource: Resource, source: WeightsSource) -> str | None:
    return f"{resource.key.namespace}/{source.secret_ref.name}" if source.secret_ref else None


def _deployment(
    resource: Resource, spec: ModelDeploymentSpec, present: ServeApplication | None
) -> dict[str, Any]:
    return {
        "name": names.MODEL_DEPLOYMENT,
        **_in_place(spec, present, [adapter.dump() for adapter in adapters(resource, spec)]),
        "max_surge_percent": 100,
        "ray_actor_options": _actor_options(spec),
        "request_router_config": {"request_router_class": ROUTER_CLASS},
    }


def _in_place(
    spec: ModelDeploymentSpec, present: ServeApplication | None, chosen: list[dict[str, Any]]
) -> dict[str, Any]:
    """What running replicas take without a restart, whichever revision they are of."""
    limit = spec.limits.max_ongoing_requests
    return {
        **_replicas(spec, present),
        "max_ongoing_requests": limit,
        "max_queued_requests": spec.limits.max_queued_requests,
        "graceful_shutdown_timeout_s": float(seconds(spec.limits.request_timeout)),
        "user_config": {**ModelUserConfig(max_ongoing_requests=limit).dump(), "adapters": chosen},
    }


def _replicas(spec: ModelDeploymentSpec, present: ServeApplication | None) -> dict[str, Any]:
    if spec.autoscaling is None:
        return {"num_replicas": spec.replicas}
    return {"autoscaling_config": _autoscaling(spec.autoscaling, has_run=_has_run(present))}


def _autoscaling(spec: Autoscaling, *, has_run: bool) -> dict[str, Any]:
    return {
        "min_replicas": spec.min_replicas,
        "max_replicas": spec.max_replicas,
        "initial_replicas": None if has_run else max(1, spec.min_replicas),
        "target_ongoing_requests": spec.target_ongoing_requests,
        "upscale_delay_s": float(seconds(spec.upscale_delay)),
        "downscale_delay_s": float(seconds(spec.downscale_delay)),
        "downscale_to_zero_delay_s": float(seconds(spec.scale_to_zero_delay)),
        "metrics_interval_s": METRICS_INTERVAL_SECONDS,
        "look_back_period_s": LOOK_BACK_SECONDS,
    }


def _has_run(present: ServeApplication | None) -> bool:
    """Whether this revision has been RUNNING since it was deployed: then its config has no first number any more."""
    if present is None or present.config is None or present.status == DELETING:
        return False
    scaling = _present_deployment(present).get("autoscaling_config")
    return present.status == RUNNING or (scaling is not None and scaling.get("initial_replicas") is None)


def _actor_options(spec: ModelDeploymentSpec) -> dict[str, Any]:
    asked = spec.resources
    options: dict[str, Any] = {"num_cpus": placement.cores(asked), "memory": quantity(asked.memory)}
    if float(asked.gpu):
        options["num_gpus"] = float(asked.gpu)
    if asked.accelerator_type:
        options["accelerator_type"] = asked.accelerator_type
    if asked.node_labels:
        options["label_selector"] = dict(sorted(asked.node_labels.items()))
    return options
