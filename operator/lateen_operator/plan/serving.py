# SPDX-License-Identifier: Apache-2.0
"""The declarative Serve config and the catalog inside it, composed from all resources. Pure; the heart of the operator.

Two rules keep requests safe, and both follow from looking at the world instead of remembering steps: an
application enters the catalog after it is RUNNING (`plan/models.py`), and leaves the config only after the gateway
serves a catalog without it and what was in flight has had time to arrive (`retired`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lateen_api import catalog, names, packing
from lateen_api.serve_config import (
    GATEWAY_IMPORT_PATH,
    GATEWAY_RAY_ONGOING_REQUESTS,
    GATEWAY_RAY_QUEUED_REQUESTS,
)
from lateen_operator.plan import applications, indexes, models, prompts
from lateen_operator.plan.world import ServingOptions, World
from lateen_operator.seams import Key, Resource

DELETING = "DELETING"
_PASSED_ON = frozenset({"args", "user_config"})
"""Parts of a Serve config that Ray adds nothing to: there, more is something that ought to be gone."""

_Plan = TypeVar("_Plan")


@dataclass(frozen=True)
class ServingPlan:
    """What Ray Serve should run, and how each resource takes part."""

    config: Mapping[str, Any]
    catalog: catalog.Catalog
    text: str
    """The catalog as it stands in the config."""
    models: Mapping[Key, models.ModelPlan]
    prompts: Mapping[Key, prompts.PromptPlan]
    indexes: Mapping[Key, indexes.IndexPlan]
    unreferenced: frozenset[str]
    """Applications nothing wants any more; they may go once drained."""
    broken: Mapping[Key, Exception]
    """Resources whose plans raised what nobody foresaw: what is deployed of them stays, all others go on."""

    def check(self, key: Key) -> None:
        """Raise what the plan of this resource raised, if it did."""
        if key in self.broken:
            raise self.broken[key]


def compose(world: World, options: ServingOptions, drained: frozenset[str]) -> ServingPlan:
    """The Serve config for `world`; `drained` names the unreferenced applications that may be removed now."""
    broken: dict[Key, Exception] = {}
    model_plans = {
        each.key: _planned(
            each, broken, lambda one: models.plan(one, world), lambda one: models.as_is(one, world)
        )
        for each in world.models
    }
    prompt_plans = {
        each.key: _planned(
            each, broken, lambda one: prompts.plan(one, world), lambda one: prompts.as_is(one, world)
        )
        for each in world.prompts
    }
    entries = [made.entry for made in model_plans.values() if made.entry]
    index_plans = {
        each.key: _planned(
            each, broken, lambda one: indexes.plan(one, world, entries), lambda one: indexes.as_is(one, world)
        )
        for each in world.indexes
    }
    document = catalog.Catalog(
        keys=[catalog.ApiKey(name=name, digest=digest) for name, digest in sorted(world.keys.items())],
        models=sorted(entries, key=lambda entry: entry.id),
        prompts=sorted((p.entry for p in prompt_plans.values() if p.entry), key=lambda entry: entry.id),
        indexes=sorted((p.entry for p in index_plans.values() if p.entry), key=lambda entry: entry.id),
    )
    wanted = {
        entry["name"]: entry
        for made in model_plans.values()
        for entry in (made.wanted, made.old)
        if entry is not None
    }
    needed = referenced(document) | _owned(broken, world)
    kept = _kept(world, wanted, needed, drained)
    text = _text(world, document)
    config = _config([gateway(text, options), *_ordered(wanted | kept)], options)
    unreferenced = frozenset(kept) - needed
    return ServingPlan(config, document, text, model_plans, prompt_plans, index_plans, unreferenced, broken)


def _planned(
    resource: Resource,
    broken: dict[Key, Exception],
    plan: Callable[[Resource], _Plan],
    as_is: Callable[[Resource], _Plan],
) -> _Plan:
    try:
        return plan(resource)
    except Exception as error:  # noqa: BLE001  # a mistake of ours about one resource must not stop all others
        broken[resource.key] = error
        return as_is(resource)


def _owned(broken: Mapping[Key, Exception], world: World) -> frozenset[str]:
    """All applications of the models whose plans are broken."""
    owners = [each for each in world.models if each.key in broken]
    return frozenset(
        name for name in world.serve.applications if any(applications.owned(each, name) for each in owners)
    )


def referenced(document: catalog.Catalog) -> frozenset[str]:
    """Applications that a gateway with this catalog calls."""
    serving = {entry.application for entry in document.models}
    serving |= {entry.canary.application for entry in document.models if entry.canary}
    return frozenset(serving | {entry.embedder_application for entry in document.indexes})


def _kept(
    world: World, wanted: Mapping[str, Any], needed: frozenset[str], drained: frozenset[str]
) -> dict[str, Mapping[str, Any]]:
    """Applications beyond the wanted ones that must go on: needed, or not yet drained."""
    kept = {}
    for name, present in world.serve.applications.items():
        is_ours = names.application_owner(name) is not None and name not in wanted
        must_go_on = name in needed or name not in drained
        if is_ours and must_go_on and present.config is not None and present.status != DELETING:
            kept[name] = present.config
    return kept


def _ordered(applications: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [applications[name] for name in sorted(applications)]


def _text(world: World, document: catalog.Catalog) -> str:
    """The catalog as it is given to the gateway; as it has been, where that says the same: packing takes its time."""
    deployed = world.deployed_catalog
    if deployed is not None and world.deployed_text and deployed.revision == document.revision:
        return world.deployed_text
    return packing.pack(document.dump())


def gateway(text: str, options: ServingOptions) -> dict[str, Any]:
    """The Serve config entry of the gateway with this catalog, packed."""
    deployment = {
        "name": names.GATEWAY_DEPLOYMENT,
        "num_replicas": options.gateway_replicas,
        "max_ongoing_requests": GATEWAY_RAY_ONGOING_REQUESTS,
        "max_queued_requests": GATEWAY_RAY_QUEUED_REQUESTS,
        "backpressure_config": {"retry_after_s": 1.0},
        "user_config": {"catalog": text},
        "graceful_shutdown_timeout_s": 120.0,
        "ray_actor_options": {"num_cpus": 0.1},
    }
    return {
        "name": names.GATEWAY_APPLICATION,
        "route_prefix": "/",
        "import_path": GATEWAY_IMPORT_PATH,
        "args": {},
        "deployments": [deployment],
    }


def _config(applications: list[Mapping[str, Any]], options: ServingOptions) -> dict[str, Any]:
    return {
        # The gateway writes a line for every request, with more in it; Ray's own, twice for each, would be paid for too.
        "logging_config": {"enable_access_log": False},
        "proxy_location": "EveryNode",
        "http_options": {"host": options.host, "port": options.port},
        "applications": applications,
    }


def differs(world: World, config: Mapping[str, Any]) -> bool:
    """Whether Ray runs something else than `config` says; defaults that Ray fills in do not count."""
    wanted = {entry["name"]: entry for entry in config["applications"]}
    present = {name: app for name, app in world.serve.applications.items() if app.status != DELETING}
    if wanted.keys() != present.keys():
        return True
    return any(not contains(present[name].config, entry) for name, entry in wanted.items())


def vanished(resource: Resource, made: models.ModelPlan, world: World) -> bool:
    """Whether an application that served is gone although nobody asked for that; a restarted Ray is another matter."""
    application = resource.status.get("application")
    present = {name for name, app in world.serve.applications.items() if app.status != DELETING}
    is_wanted = made.wanted is not None and made.wanted["name"] == application
    return is_wanted and names.GATEWAY_APPLICATION in present and application not in present


def contains(present: Any, wanted: Any) -> bool:
    """Whether `present` says everything that `wanted` says; more is fine, but for what Ray passes on unread."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            key in present and (present[key] == value if key in _PASSED_ON else contains(present[key], value))
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(present, list)
            and len(present) == len(wanted)
            and all(contains(a, b) for a, b in zip(present, wanted, strict=True))
        )
    return bool(present == wanted)
