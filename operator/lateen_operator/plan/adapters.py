# SPDX-License-Identifier: Apache-2.0
"""Which LoRA adapters of a model answer, by what its replicas say. Pure.

    in the spec -> loading -> loaded: in the catalog's list, as long as every replica has it
                      |___-> failed: said in the status; replicas try again by themselves

Called by `plan/models.py` for the catalog and by `plan/model_fields.py` for the status.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lateen_api import catalog
from lateen_api.conditions import Reason
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.serve_config import AdapterArguments
from lateen_operator.plan import applications
from lateen_operator.plan.world import World
from lateen_operator.seams import Resource


@dataclass(frozen=True)
class Standing:
    """How far one adapter is."""

    state: Literal["Loaded", "Loading", "Failed"]
    """Loaded: it may be called."""
    reason: str = ""
    """Why it is not as the spec says, as a word of `conditions.Reason`; empty when it is."""
    message: str = ""
    """The same for people."""


_LOADED = Standing("Loaded")
LOADING = Standing("Loading", Reason.PROGRESSING.value, "it is being loaded")
_FAILED = Standing("Failed", Reason.ADAPTER_FAILED.value, "it could not be loaded")
_REPLACED = Standing(
    "Loaded", Reason.PROGRESSING.value, "its former weights answer until the new ones are loaded"
)


def placed(
    entry: catalog.Model, resource: Resource, spec: ModelDeploymentSpec, world: World
) -> catalog.Model:
    """`entry` with the adapters of `spec`, as they are in the applications it sends requests to."""
    named: dict[str, list[str]] = {"Loaded": [], "Loading": [], "Failed": []}
    for name, standing in standings(entry, resource, spec, world).items():
        named[standing.state].append(name)
    return entry.model_copy(
        update={
            "adapters": named["Loaded"],
            "loading_adapters": named["Loading"],
            "failed_adapters": named["Failed"],
        }
    )


def standings(
    entry: catalog.Model, resource: Resource, spec: ModelDeploymentSpec, world: World
) -> dict[str, Standing]:
    """How far each adapter of `spec` is in the applications of `entry`, sorted by name.

    Where nothing is known now, it is as the deployed catalog says.
    """
    serving = [entry.application, *([entry.canary.application] if entry.canary else [])]
    document = world.deployed_catalog
    before = next((each for each in (document.models if document else ()) if each.id == entry.id), None)
    return {
        adapter.name: _worst(_standing(adapter, application, world, before) for application in serving)
        for adapter in applications.adapters(resource, spec)
    }


def _standing(
    adapter: AdapterArguments, application: str, world: World, before: catalog.Model | None
) -> Standing:
    present = world.serve.applications.get(application)
    said = world.serve.facts.get(application)
    fact = said.adapters.get(adapter.name) if said is not None else None
    is_current = fact is not None and fact.identity == adapter.identity
    failure = Standing("Failed", fact.reason, fact.message) if fact and fact.reason and is_current else None
    if said is None or present is None or present.running_replicas == 0:
        # The facts, if any, are the last word of replicas that are gone.
        sleeps = present is not None and present.target_replicas == 0
        return failure or _unheard(adapter.name, before, sleeps=sleeps)
    if fact is None or (fact.reason and not is_current):
        return LOADING
    return failure or (_LOADED if is_current else _REPLACED)


def _unheard(name: str, before: catalog.Model | None, *, sleeps: bool) -> Standing:
    """Where no replica serves or none was heard; a call wakes a model that `sleeps`, and its adapters with it."""
    if sleeps or (before is not None and name in before.adapters):
        return _LOADED
    return _FAILED if before is not None and name in before.failed_adapters else LOADING


def _worst(found: Iterable[Standing]) -> Standing:
    order = ("Failed", "Loading", "Loaded")
    return min(found, key=lambda standing: (order.index(standing.state), not standing.reason))
