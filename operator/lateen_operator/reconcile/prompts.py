# SPDX-License-Identifier: Apache-2.0
"""Brings one PromptTemplate to its spec; called by `reconciler.py`, safe to repeat at any moment.

No finalizer: a prompt exists nowhere but in the catalog, which is made anew without it.
"""

from lateen_operator.plan import prompts
from lateen_operator.reconcile.convergence import Convergence
from lateen_operator.reconcile.reporting import tell
from lateen_operator.seams import Cluster, Resource


async def reconcile(resource: Resource, cluster: Cluster, convergence: Convergence) -> float | None:
    """Observe, plan, execute, report; returns seconds until it wants to be called again."""
    view = await convergence.run()
    made = view.plan.prompts.get(resource.key)
    if made is None or resource.deleting:
        return None
    if made.store is not None:
        spec = made.store
        await cluster.store_revision(resource, spec.revision(), made.number, spec.dump())
    for name in made.forget:
        await cluster.delete_revision(resource.key.namespace, name)
    return await tell(cluster, resource, prompts.report(resource, made, view.world), view.world.now)
