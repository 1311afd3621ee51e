# SPDX-License-Identifier: Apache-2.0
"""Brings one ModelDeployment to its spec; called by `reconciler.py`, safe to repeat at any moment."""

from lateen_api import names
from lateen_api.conditions import Reason
from lateen_operator.plan import models
from lateen_operator.reconcile.convergence import Convergence
from lateen_operator.reconcile.reporting import tell
from lateen_operator.seams import Cluster, Event, Resource
from lateen_operator.status import Report, Verdict


async def reconcile(resource: Resource, cluster: Cluster, convergence: Convergence) -> float | None:
    """Observe, plan, execute, report; returns seconds until it wants to be called again."""
    if resource.deleting:
        return await _finalize(resource, cluster, convergence)
    if names.FINALIZER not in resource.finalizers:
        await cluster.add_finalizer(resource)
    view = await convergence.run()
    made = view.plan.models.get(resource.key)
    if made is None:
        return 0.1
    report = models.report(resource, made, view.world)
    return await tell(cluster, resource, report, view.world.now)


async def _finalize(resource: Resource, cluster: Cluster, convergence: Convergence) -> float | None:
    if names.FINALIZER not in resource.finalizers:
        return None
    view = await convergence.run()
    made = view.plan.models.get(resource.key)
    if made is not None and models.users(resource, view.world):
        return await tell(cluster, resource, models.report(resource, made, view.world), view.world.now)
    owned = [name for name in view.world.serve.applications if _owns(resource, name)]
    if owned:
        verdict = Verdict("False", Reason.PROGRESSING, f"removing {', '.join(sorted(owned))} from Ray")
        await tell(cluster, resource, Report(verdict, reconciling=True), view.world.now)
        return 0.5
    await cluster.post_event(resource, Event("Normal", Reason.DELETED.value, "removed from Ray"))
    await cluster.remove_finalizer(resource)
    return None


def _owns(resource: Resource, application: str) -> bool:
    owner = names.application_owner(application)
    return owner is not None and owner[:2] == (resource.key.namespace, resource.key.name)
