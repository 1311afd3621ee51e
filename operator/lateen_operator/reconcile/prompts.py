# SPDX-License-Identifier: Apache-2.0
"""Brings one PromptTemplate to its spec; called by `reconciler.py`, safe to repeat at any moment.

No finalizer: a prompt exists nowhere but in the catalog, which is made anew without it.
"""

from collections.abc import Callable

from lateen_operator.plan import prompt_includes, prompts
from lateen_operator.reconcile.convergence import Convergence
from lateen_operator.reconcile.reporting import Reporter
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Key, Resource, Wish


async def reconcile(
    resource: Resource,
    revisions: Revisions,
    convergence: Convergence,
    reporter: Reporter,
    enqueue: Callable[[Key], None],
) -> Wish:
    """Observe, plan, execute, report; returns when it wants to be called again."""
    view = await convergence.run()
    made = view.plan.prompts.get(resource.key)
    if made is not None and made.writes_first and not resource.deleting:
        await _keep(resource, made, revisions)
        for waiting in prompt_includes.including(resource, view.world.prompts):
            enqueue(waiting)
        view = await convergence.run()
        made = view.plan.prompts.get(resource.key)
    if made is None or resource.deleting:
        return None
    view.plan.check(resource.key)
    await revisions.delete(resource.key.namespace, made.forget)
    for use in made.uses:
        await revisions.note_use(resource.key.namespace, use.name, use.when)
    return await reporter.tell(resource, prompts.report(resource, made, view.world), view.world.now)


async def _keep(resource: Resource, made: prompts.PromptPlan, revisions: Revisions) -> None:
    """Write down what is about to be live, before it is: a label that anybody was answered by is never lost."""
    if made.store is not None:
        await revisions.store(resource, made.revision, made.number, made.store)
    if made.renumber:
        await revisions.renumber(resource.key.namespace, made.renumber, made.number)
