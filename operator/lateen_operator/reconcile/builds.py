# SPDX-License-Identifier: Apache-2.0
"""Index builds: decides from reports and jobs what one index needs next, and does it. Called by `indexes.py`.

A job's id says what it builds (`lateen-UID-REVISION-FINGERPRINT-N`), so an operator killed after submitting one
finds it again and does not submit a second.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lateen_api.conditions import Reason
from lateen_api.index_build import BUILD_ENTRYPOINT, CONFIGMAP_FOLDER, REQUEST_FILE, BuildReport
from lateen_operator.plan import index_gate, indexes, problems, pushes
from lateen_operator.plan.index_status import BuildState
from lateen_operator.plan.indexes import IndexPlan
from lateen_operator.plan.world import World
from lateen_operator.seams import Cluster, Event, Job, JobStatus, PushState, Resource, Serve, Store
from lateen_operator.status import Verdict, unix, unready_seconds

ACTIVE = (JobStatus.PENDING, JobStatus.RUNNING)
ConfigMaps = Mapping[str, Mapping[str, bytes]]
Reports = dict[str, BuildReport | None]
KEPT_TRIES = 8
"""Ended jobs of one content that Ray remembers: enough to know how long to wait for the next."""


class MissingConfigMap(Exception):
    """A source names a ConfigMap that does not exist."""


class Builds:
    """Runs the builds of all indexes."""

    def __init__(self, cluster: Cluster, serve: Serve, store: Store) -> None:
        self._cluster, self._serve, self._store = cluster, serve, store

    async def advance(self, resource: Resource, made: IndexPlan, world: World, kept: Reports) -> BuildState:
        """Take the next step for one index: submit a job, wait for one, or move the alias.

        `kept` are the last reports of the earlier collections that are kept, by collection.
        """
        live = await self._store.report(made.entry.collection) if made.entry else None
        pushed = await self._pushed(resource, made, live)
        state = await self._advanced(resource, made, world, live, pushed, kept)
        if pushed is None:
            return state
        again = min(state.again or pushes.LOOK_SECONDS, pushes.LOOK_SECONDS)
        return replace(state, again=again, unindexed=pushes.unindexed(state.live, pushed))

    async def _advanced(
        self,
        resource: Resource,
        made: IndexPlan,
        world: World,
        live: BuildReport | None,
        pushed: PushState | None,
        kept: Reports,
    ) -> BuildState:
        if made.problem is not None or made.collection is None or made.spec is None:
            return BuildState(live=live)
        try:
            config_maps = await self._config_maps(resource, made)
        except MissingConfigMap as error:
            verdict = Verdict("False", Reason.REFERENCE_NOT_FOUND, str(error))
            return BuildState(live=live, failure=verdict, stopping=True, again=5.0)
        wanted = indexes.fingerprint(resource, made.spec, config_maps, world.now, pushed)
        return await self._step(_Work(resource, made, config_maps, wanted, live, pushed, kept), world)

    async def _step(self, work: "_Work", world: World) -> BuildState:
        resource, made, wanted, live = work.resource, work.made, work.wanted, work.live
        built = await self._built(made, world)
        if built is not None:
            # A build that ended since it was read must not make the status tell of two runs at once.
            live = built if made.is_live else live
            moved = await self._go_live(resource, made, built, world)
            if moved:
                return BuildState(built, built, building=True, fingerprint=wanted, again=0.1)
        jobs = await self._own_jobs(resource)
        work = replace(work, live=live, built=built, held=index_gate.held(made, built))
        if await self._stop_others(work, jobs):
            return BuildState(live, built, True, fingerprint=wanted, stopping=True, again=0.5)
        if not _is_due(work, world):
            await self._tidy(jobs)
            again = 5.0 if work.held else None
            return BuildState(live, built, failure=work.held, fingerprint=wanted, again=again)
        return await self._build(work, jobs, world.now)

    async def reports(self, collections: Sequence[str]) -> Reports:
        """The last build report of each of `collections`."""
        found = await asyncio.gather(*(self._store.report(name) for name in collections))
        return dict(zip(collections, found, strict=True))

    async def abandon(self, resource: Resource) -> bool:
        """Stop and forget all builds of an index; True while one is still at work."""
        jobs = await self._own_jobs(resource)
        active = [job for job in jobs.values() if job.status in ACTIVE]
        for job in active:
            await self._serve.stop(job.id)
        if not active:
            await self._tidy(jobs)
        return bool(active)

    async def _pushed(
        self, resource: Resource, made: IndexPlan, live: BuildReport | None
    ) -> PushState | None:
        """What clients have pushed; None where the spec has no source for it."""
        where = pushes.collection(resource, made.spec) if made.spec else None
        return await self._store.pushed(where, unix(live.started_at) if live else 0.0) if where else None

    async def _config_maps(self, resource: Resource, made: IndexPlan) -> dict[str, Mapping[str, bytes]]:
        found: dict[str, Mapping[str, bytes]] = {}
        for source in made.spec.sources if made.spec else []:
            if source.config_map is None:
                continue
            content = await self._cluster.config_map(resource.key.namespace, source.config_map.name)
            if content is None:
                where = f"spec.sources[{source.name}].configMap"
                raise MissingConfigMap(f"{where}: ConfigMap {source.config_map.name!r} does not exist")
            found[source.name] = content
        return found

    async def _built(self, made: IndexPlan, world: World) -> BuildReport | None:
        if made.collection is None or made.collection not in world.store.collections:
            return None
        return await self._store.report(made.collection)

    async def _go_live(self, resource: Resource, made: IndexPlan, built: BuildReport, world: World) -> bool:
        alias = indexes.alias(resource)
        present = world.store.aliases.get(alias)
        if present == made.collection or made.collection is None:
            return False
        if index_gate.held(made, built) is not None:
            return False
        await self._store.point_alias(alias, made.collection)
        drifted = made.collection == resource.status.get("collection")
        reason = Reason.DRIFT_REPAIRED if drifted else Reason.ALIAS_SWITCHED
        message = f"queries go to {made.collection} with {built.documents} documents"
        await self._cluster.post_event(resource, Event("Normal", reason.value, message))
        return True

    async def _own_jobs(self, resource: Resource) -> dict[str, Job]:
        start = _stem(resource)
        return {name: job for name, job in (await self._serve.jobs()).items() if name.startswith(start)}

    async def _tidy(self, jobs: Mapping[str, Job]) -> None:
        for job in jobs.values():
            if job.status not in ACTIVE:
                await self._serve.forget(job.id)

    async def _stop_others(self, work: "_Work", jobs: Mapping[str, Job]) -> bool:
        """Stop builds of revisions that the spec no longer asks for; True while one is still at work."""
        others = [
            job for job in jobs.values() if job.status in ACTIVE and not job.id.startswith(work.revision_stem)
        ]
        for job in others:
            await self._serve.stop(job.id)
        return bool(others)

    async def _build(self, work: "_Work", jobs: Mapping[str, Job], now: float) -> BuildState:
        building = BuildState(work.live, work.built, True, work.held, work.wanted, again=0.5)
        if any(job.status in ACTIVE for job in jobs.values()):
            return building
        tries = [job for job in jobs.values() if job.id.startswith(work.stem)]
        tries = sorted(tries, key=lambda job: _number(job.id))[-KEPT_TRIES:]
        await self._tidy({job.id: job for job in jobs.values() if job not in tries})
        if not tries:
            await self._submit(work, 0)
            return building
        # One that succeeded may just have ended, or what it wrote is not what was asked for: it is no reason for haste.
        last, wait = tries[-1], tries[-1].ended_at + problems.backoff(len(tries) - 1) - now
        if last.status is not JobStatus.SUCCEEDED or len(tries) > 1:
            building = BuildState(
                work.live, work.built, False, _failure(last), work.wanted, again=max(wait, 0.5)
            )
        if wait <= 0:
            await self._submit(work, _number(last.id) + 1)
        return building

    async def _submit(self, work: "_Work", number: int) -> None:
        request = indexes.request(
            work.resource, work.made, work.wanted, index_gate.measured(work.made, work.built)
        )
        files = {REQUEST_FILE: json.dumps(request.dump()).encode()}
        for source, content in work.config_maps.items():
            # The folder says that the ConfigMap exists, also when it is empty.
            files[f"{CONFIGMAP_FOLDER}/{source}/"] = b""
            files |= {f"{CONFIGMAP_FOLDER}/{source}/{key}": value for key, value in content.items()}
        job_id = f"{work.stem}{number}"
        await self._serve.submit(job_id, BUILD_ENTRYPOINT, files)
        message = f"job {job_id} fills {request.collection}"
        await self._cluster.post_event(work.resource, Event("Normal", Reason.BUILD_STARTED.value, message))


@dataclass(frozen=True)
class _Work:
    """A build that is due."""

    resource: Resource
    made: IndexPlan
    config_maps: ConfigMaps
    wanted: str
    live: BuildReport | None
    pushed: PushState | None
    kept: Reports
    built: BuildReport | None = None
    held: Verdict | None = None

    @property
    def revision_stem(self) -> str:
        """What the ids of all jobs for the wanted collection start with."""
        assert self.made.spec is not None
        assert self.made.embedder is not None
        return f"{_stem(self.resource)}{self.made.spec.revision(self.made.embedder.revision)}-"

    @property
    def stem(self) -> str:
        """What the ids of all jobs for the wanted content start with."""
        return f"{self.revision_stem}{self.wanted}-"


def _is_due(work: "_Work", world: World) -> bool:
    made, built = work.made, work.built
    if built is None or made.spec is None or built.fingerprint != work.wanted:
        return True
    if pushes.has_more(built, made.spec, work.pushed) or index_gate.behind(made, built, work.kept.values()):
        return True
    return index_gate.retry_due(made, built, world.now, unready_seconds(work.resource, world.now))


def _stem(resource: Resource) -> str:
    return f"lateen-{resource.uid.replace('-', '')[:12]}-"


def _number(job_id: str) -> int:
    return int(job_id.rpartition("-")[2])


def _failure(job: Job) -> Verdict:
    if job.status is JobStatus.SUCCEEDED:
        message = f"job {job.id} left no report of what was asked for; are Ray and operator of one version?"
        return Verdict("False", Reason.BUILD_FAILED, message)
    found = problems.failure(job.message)
    if found is not None:
        return found
    return Verdict("False", Reason.BUILD_FAILED, problems.last_line(job.message) or f"job {job.id} failed")
