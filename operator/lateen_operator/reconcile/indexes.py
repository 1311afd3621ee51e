# SPDX-License-Identifier: Apache-2.0
"""Brings one RAGIndex to its spec; called by `reconciler.py`, safe to repeat at any moment."""

from dataclasses import replace

from lateen_api import names
from lateen_api.conditions import Reason
from lateen_operator.plan import index_history, index_status, indexes
from lateen_operator.plan.index_history import HistoryPlan
from lateen_operator.plan.world import World
from lateen_operator.reconcile.builds import Builds
from lateen_operator.reconcile.convergence import Convergence, View
from lateen_operator.reconcile.drains import Drains
from lateen_operator.reconcile.reporting import Reporter
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Backoff, Cluster, Event, Resource, Store, StoreUnavailable, Wish
from lateen_operator.status import Report, Verdict


class IndexReconciler:
    """Reconciles RAGIndexes; remembers only since when old collections are unused."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        revisions: Revisions,
        builds: Builds,
        convergence: Convergence,
        reporter: Reporter,
    ) -> None:
        self._cluster, self._store, self._builds, self._convergence = cluster, store, builds, convergence
        self._revisions, self._reporter = revisions, reporter
        self._drains: dict[str, Drains] = {}

    async def reconcile(self, resource: Resource) -> Wish:
        """Observe, plan, execute, report; returns when it wants to be called again."""
        if resource.deleting:
            return await self._finalize(resource)
        if names.FINALIZER not in resource.finalizers:
            await self._cluster.add_finalizer(resource)
        view = await self._looked()
        made = view.plan.indexes.get(resource.key)
        if made is None:
            return 0.1
        view.plan.check(resource.key)
        history = index_history.plan(resource, made, view.world)
        kept = await self._builds.reports([index_history.collection(resource, item) for item in history.kept])
        state = replace(await self._builds.advance(resource, made, view.world, kept), kept=kept)
        written = await self._keep_history(resource, made, history)
        swept = None if state.stopping else await self._sweep(resource, made, history, view)
        report = index_status.report(resource, made, state, view.world, history)
        again = await self._reporter.tell(resource, report, view.world.now)
        wishes = [wish for wish in (again, swept, written) if wish is not None]
        return min(wishes, key=lambda wish: wish.first if isinstance(wish, Backoff) else wish, default=None)

    async def _looked(self) -> View:
        """A pass; raises Unavailable also where only Weaviate did not answer, which other kinds do without."""
        view = await self._convergence.run()
        if view.world.store.problem:
            raise StoreUnavailable(view.world.store.problem)
        return view

    async def _keep_history(
        self, resource: Resource, made: indexes.IndexPlan, history: HistoryPlan
    ) -> float | None:
        """Write down which revision is live, forget those whose collections are gone; seconds until the status can tell."""
        namespace = resource.key.namespace
        if history.store is not None and made.entry is not None:
            await self._revisions.store(resource, made.entry.revision, history.number, history.store)
        if history.renumber:
            await self._revisions.renumber(namespace, history.renumber, history.number)
        await self._revisions.delete(namespace, history.forget)
        return 0.1 if history.store or history.renumber else None

    async def _sweep(
        self, resource: Resource, made: indexes.IndexPlan, history: HistoryPlan, view: View
    ) -> float | None:
        """Delete collections that nothing needs any more; returns seconds until more may go."""
        drains = self._drains.setdefault(resource.uid, Drains(seconds=5.0))
        drains.watch(index_history.unused(resource, made, history, view.world), view.world.now)
        for name in drains.drained(view.world.now):
            await self._delete_collection(name, view)
        return drains.next_due(view.world.now)

    async def _delete_collection(self, name: str, view: View) -> None:
        # The ledger goes last: as long as it is there, the chunks are known to be ours.
        await self._store.delete_collection(name)
        if names.ledger_collection(name) in view.world.store.collections:
            await self._store.delete_collection(names.ledger_collection(name))

    async def _finalize(self, resource: Resource) -> float | None:
        if names.FINALIZER not in resource.finalizers:
            return None
        view = await self._looked()
        is_building = await self._builds.abandon(resource)
        if _may_be_served(resource, view.world) or is_building:
            verdict = Verdict("False", Reason.PROGRESSING, "taking the index out of service")
            await self._reporter.tell(resource, Report(verdict, reconciling=True), view.world.now)
            return 0.3
        removed = Event("Normal", Reason.DELETED.value, "removed from Weaviate")
        retained = index_history.retained(resource, view.world)
        await self._delete_all(resource, view, with_collections=retained is None)
        await self._cluster.post_event(resource, retained or removed)
        await self._cluster.remove_finalizer(resource)
        self._drains.pop(resource.uid, None)
        return None

    async def _delete_all(self, resource: Resource, view: View, *, with_collections: bool) -> None:
        if indexes.alias(resource) in view.world.store.aliases:
            await self._store.delete_alias(indexes.alias(resource))
        start = f"{indexes.prefix(resource)}_"
        for name in sorted(view.world.store.collections):
            if with_collections and name.startswith(start):
                await self._store.delete_collection(name)


def _may_be_served(resource: Resource, world: World) -> bool:
    """Whether requests may meet a catalog with this index, also one that nobody knows; not while there is no gateway."""
    if world.is_gateway_down:
        return False
    wanted = names.client_id(resource.key.namespace, resource.key.name)
    return world.reachable is None or any(
        entry.id == wanted for each in world.reachable for entry in each.indexes
    )
