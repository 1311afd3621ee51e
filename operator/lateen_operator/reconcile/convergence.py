# SPDX-License-Identifier: Apache-2.0
"""One pass over the whole world: observe it, compose the Serve config, apply it if Ray runs something else.

Every kind's reconcile asks for a pass, because the Serve config is one document made of all resources. Callers that
come while a pass is under way share the next one.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from lateen_api.conditions import Reason
from lateen_operator.cache import ResourceCache
from lateen_operator.mirror import SecretsMirror
from lateen_operator.plan import references, serving
from lateen_operator.plan.reading import Reader
from lateen_operator.plan.world import ServingOptions, World
from lateen_operator.reconcile.drains import Drains
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Cluster, Event, Kind, Serve, Store, Unavailable

DRAIN_SECONDS = 3.0
"""From the moment the gateway serves a catalog without an application until that application may go.

It only has to cover the steps between resolving a model and calling it; calls under way are drained by Ray Serve
itself, up to the model's request timeout.
"""

LONGEST_REST = 0.5
"""Seconds between two passes, at most; else as long as the one before took. Where passes are long, because there is
much, more callers then share the next one, and Ray gets fewer configs with more in each."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class View:
    """What one pass saw and decided."""

    world: World
    plan: serving.ServingPlan


class Convergence:
    """Runs passes, one at a time."""

    def __init__(
        self,
        cluster: Cluster,
        serve: Serve,
        store: Store,
        cache: ResourceCache,
        revisions: Revisions,
        options: ServingOptions,
        clock: Callable[[], float],
        mirror: SecretsMirror | None = None,
    ) -> None:
        self._cluster, self._serve, self._store, self._mirror = cluster, serve, store, mirror
        self._cache, self._revisions = cache, revisions
        self._options, self._clock = options, clock
        self._reader = Reader()
        self._drains = Drains(DRAIN_SECONDS)
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[View] | None = None
        self._rest = 0.0

    async def run(self) -> View:
        """The view of a pass that starts after this call; raises seams.Unavailable."""
        if self._next is None:
            self._next = asyncio.create_task(self._pass())
        return await asyncio.shield(self._next)

    async def _pass(self) -> View:
        async with self._lock:
            await asyncio.sleep(self._rest)
            self._next = None
            began = self._clock()
            try:
                return await self._converge()
            finally:
                self._rest = min(LONGEST_REST, max(0.0, self._clock() - began))

    async def _converge(self) -> View:
        world = await self._observe()
        plan = self._plan(world)
        await self._note_aborts(world, plan)
        if serving.differs(world, plan.config):
            await self._serve.apply(plan.config)
            self._reader.applied(plan.text, plan.catalog)
            log.info("serve config applied", catalog=plan.catalog.revision)
            await self._tell_drift(world, plan)
        return View(world, plan)

    async def _note_aborts(self, world: World, plan: serving.ServingPlan) -> None:
        """Write down which rollouts are given up, before requests leave them: who is killed in between goes on so."""
        for resource in world.models:
            abort = plan.models[resource.key].abort
            if abort is not None:
                log.warning(
                    "rollout given up", model=resource.key.name, revision=abort.name, reason=abort.why
                )
                try:
                    await self._revisions.abort(resource.key.namespace, abort.name, abort.why)
                except Unavailable as error:  # clients first: it starts afresh, is judged and noted again
                    log.error("an abort could not be noted", revision=abort.name, error=str(error))

    async def _tell_drift(self, world: World, plan: serving.ServingPlan) -> None:
        for resource in world.models:
            if serving.vanished(resource, plan.models[resource.key], world):
                message = "the Serve application was gone from Ray and is deployed again"
                await self._cluster.post_event(
                    resource, Event("Warning", Reason.DRIFT_REPAIRED.value, message)
                )

    async def _observe(self) -> World:
        serve, store, keys = await asyncio.gather(
            self._serve.observe(), self._store.observe(), self._cluster.api_keys()
        )
        models = tuple(self._cache.of_kind(Kind.MODEL_DEPLOYMENT))
        prompts = tuple(self._cache.of_kind(Kind.PROMPT_TEMPLATE))
        indexes = tuple(self._cache.of_kind(Kind.RAG_INDEX))
        missing = await self._mirrored(references.secrets(models, indexes, serve.applications.values()))
        revisions = self._revisions.by_owner()
        self._reader.limit(prompts, (item for owned in revisions.values() for item in owned))
        return World(
            models=models,
            prompts=prompts,
            indexes=indexes,
            keys=keys,
            revisions=revisions,
            serve=serve,
            store=store,
            missing_secrets=missing,
            gateway_url=self._options.gateway_url,
            placement_seconds=self._options.placement_seconds,
            now=self._clock(),
            reader=self._reader,
        )

    async def _mirrored(self, wanted: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Put the Secrets that are referred to where Ray's nodes find them; those that nobody has made."""
        if self._mirror is None:
            return frozenset()
        found = await asyncio.gather(*(self._cluster.secret(*each) for each in wanted))
        contents = {each: content for each, content in zip(wanted, found, strict=True) if content is not None}
        try:
            await self._mirror.sync(contents)
        except OSError as error:
            raise Unavailable(f"the folder for secrets can't be written: {error}") from error
        return frozenset(wanted) - contents.keys()

    def _plan(self, world: World) -> serving.ServingPlan:
        first = serving.compose(world, self._options, frozenset())
        self._drains.watch(self._unused(world, first), world.now)
        drained = self._drains.drained(world.now)
        return serving.compose(world, self._options, drained) if drained else first

    def _unused(self, world: World, plan: serving.ServingPlan) -> Iterable[str]:
        """Unreferenced applications that the gateway does not send traffic to either, nor is about to."""
        if world.is_gateway_down:
            return plan.unreferenced
        if world.reachable is None:
            return ()
        return plan.unreferenced.difference(*map(serving.referenced, world.reachable))
