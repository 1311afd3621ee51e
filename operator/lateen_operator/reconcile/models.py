# SPDX-License-Identifier: Apache-2.0
"""Brings one ModelDeployment to its spec; called by `reconciler.py`, safe to repeat at any moment."""

from lateen_api import names
from lateen_api.conditions import Reason
from lateen_operator.plan import applications, model_status, models
from lateen_operator.reconcile.convergence import Convergence
from lateen_operator.reconcile.reporting import Reporter
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Cluster, Event, Resource, Wish
from lateen_operator.status import Report, Verdict


async def reconcile(
    resource: Resource,
    cluster: Cluster,
    revisions: Revisions,
    convergence: Convergence,
    reporter: Reporter,
) -> Wish:
    """Observe, plan, execute, report; returns when it wants to be called again."""
    if resource.deleting:
        return await _finalize(resource, cluster, convergence, reporter)
    if names.FINALIZER not in resource.finalizers:
        await cluster.add_finalizer(resource)
    view = await convergence.run()
    made = view.plan.models.get(resource.key)
    if made is None:
        return 0.1
    view.plan.check(resource.key)
    await _keep_history(resource, made, revisions)
    report = model_status.report(resource, made, view.world)
    return await reporter.tell(resource, report, view.world.now)


async def _keep_history(resource: Resource, made: models.ModelPlan, revisions: Revisions) -> None:
    history, namespace = made.history, resource.key.namespace
    if history.store is not None and made.spec is not None:
        await revisions.store(resource, made.spec.revision(), history.number, history.store)
    if history.renumber:
        await revisions.renumber(namespace, history.renumber, history.number)
    await revisions.delete(namespace, history.forget)


async def _finalize(
    resource: Resource, cluster: Cluster, convergence: Convergence, reporter: Reporter
) -> Wish:
    if names.FINALIZER not in resource.finalizers:
        return None
    view = await convergence.run()
    made = view.plan.models.get(resource.key)
    if made is not None and models.users(resource, view.world):
        report = model_status.report(resource, made, view.world)
        return await reporter.tell(resource, report, view.world.now)
    owned = [name for name in view.world.serve.applications if applications.owned(resource, name)]
    if owned:
        verdict = Verdict("False", Reason.PROGRESSING, f"removing {', '.join(sorted(owned))} from Ray")
        await reporter.tell(resource, Report(verdict, reconciling=True), view.world.now)
        return 0.5
    await cluster.post_event(resource, Event("Normal", Reason.DELETED.value, "removed from Ray"))
    await cluster.remove_finalizer(resource)
    return None
