# SPDX-License-Identifier: Apache-2.0
"""A small simulated world behind the operator's three seams.

Time and progress move only when a test says so (`World.tick`). Every write is recorded and can be the last before a crash.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lateen_api import names, packing
from lateen_api.catalog import Catalog
from lateen_api.gateway_report import Facts, Traffic
from lateen_api.index_build import BuildReport, DocumentFailure, SourceReport
from lateen_operator.cache import ResourceCache
from lateen_operator.reconcile.reconciler import Reconciler
from lateen_operator.revisions import Revisions
from lateen_operator.seams import (
    Event,
    Job,
    JobStatus,
    Key,
    Kind,
    ListedRevisions,
    Node,
    PushState,
    Resource,
    RevisionChange,
    ServeApplication,
    StoredRevision,
    Unavailable,
)
from lateen_operator.settings import OperatorSettings
from unit.operator_fake_ray import FakeServe
from unit.operator_fake_store import FakeStore, built

QUIET_ROUNDS = 7
"""Rounds of one second without a write after which nothing is on its way: longer than any drain."""


class Crash(BaseException):
    """The operator was killed right after a write."""


@dataclass
class FakeWorld:
    """State of cluster, Ray and Weaviate, and the clock."""

    now: float = 1_000_000.0
    resources: dict[Key, Resource] = field(default_factory=dict)
    stored: list[StoredRevision] = field(default_factory=list)
    config_maps: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    applications: dict[str, ServeApplication] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Message by weights uri: applications with it fail to start."""
    restarts: list[str] = field(default_factory=list)
    """Applications whose replicas were started anew."""
    served_catalog: str | None = None
    facts: dict[str, Facts] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    prompt_uses: dict[str, dict[str, int]] = field(default_factory=dict)
    is_full: bool = False
    """Whether no node has room for replicas that the autoscaler asks for."""
    nodes: tuple[Node, ...] = (Node({"CPU": 8.0, "memory": 64e9}),)
    secrets: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    failing_documents: tuple[DocumentFailure, ...] = ()
    source_reports: tuple[SourceReport, ...] = ()
    recall: float = 1.0
    """What builds measure."""
    lost_objects: int = 0
    """Passages that builds find missing in the collection."""
    failing_jobs: str | None = None
    """Message that jobs fail with; None: they succeed."""
    store_away: bool = False
    """Whether Weaviate does not answer."""
    collections: set[str] = field(default_factory=set)
    reports: dict[str, BuildReport] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    pushed: dict[str, PushState] = field(default_factory=dict)
    """By collection, what clients have pushed."""
    notes_refused: bool = False
    """Whether the API server refuses to annotate ControllerRevisions."""
    events: list[tuple[str, str]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    version: int = 0
    """The last resource version given to a ControllerRevision."""
    revision_lists: int = 0
    """How often ControllerRevisions were listed."""
    crash_after: int | None = None

    def wrote(self, what: str) -> None:
        """Record a write; the operator dies here when the test says so."""
        self.writes.append(what)
        if self.crash_after is not None and len(self.writes) >= self.crash_after:
            self.crash_after = None
            raise Crash

    def put(self, kind: Kind, name: str, spec: Mapping[str, Any], **changes: Any) -> Resource:
        """Create a resource, or change its spec as a user would."""
        key = Key(kind, "default", name)
        present = self.resources.get(key)
        if present is None:
            present = Resource(key, f"uid-{name}-0000-000000", 0, "1", int(self.now), {}, {}, {}, (), False)
        bumped = present.generation + (present.spec != spec)
        self.resources[key] = replace(present, spec=spec, generation=bumped, **changes)
        return self.resources[key]

    def delete(self, key: Key) -> None:
        """Delete a resource as a user would: at once, or as soon as its finalizers are gone."""
        if self.resources[key].finalizers:
            self.resources[key] = replace(self.resources[key], deleting=True)
        else:
            del self.resources[key]

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass: applications start or fail, the gateway takes its catalog, jobs end."""
        self.now += seconds
        for name, app in list(self.applications.items()):
            if app.status == "DELETING":
                del self.applications[name]
            elif app.status == "DEPLOYING":
                self.applications[name] = self._started(app)
            elif app.starting_replicas and not self.is_full:
                running = app.running_replicas + app.starting_replicas
                self.applications[name] = replace(
                    app, running_replicas=running, starting_replicas=0, unplaced_since=0.0
                )
        self.served_catalog = self._gateway_catalog()
        for name, job in list(self.jobs.items()):
            if job.status is JobStatus.RUNNING:
                self.jobs[name] = self._ended(job)

    def _started(self, app: ServeApplication) -> ServeApplication:
        assert app.config is not None
        message = self.broken.get((app.config.get("args") or {}).get("uri", ""))
        if message is not None:
            return replace(app, status="DEPLOY_FAILED", message=message, running_replicas=0)
        return replace(
            app,
            status="RUNNING",
            running_replicas=app.target_replicas,
            starting_replicas=0,
            failed_replicas=0,
        )

    def autoscale(self, name: str, target: int) -> None:
        """The autoscaler decides; replicas stop at once and start until the next tick."""
        app = self.applications[name]
        running = min(app.running_replicas, target)
        self.applications[name] = replace(
            app,
            target_replicas=target,
            running_replicas=running,
            starting_replicas=target - running,
            unplaced_since=self.now if self.is_full and target > running else 0.0,
        )

    def crash(self, name: str) -> None:
        """All replicas of an application die; Ray calls it unwell and starts them again."""
        app = self.applications[name]
        self.applications[name] = replace(
            app,
            status="UNHEALTHY",
            message="its replicas died",
            running_replicas=0,
            starting_replicas=app.target_replicas,
            failed_replicas=app.running_replicas,
        )

    def heal(self, name: str) -> None:
        """Ray has started the replicas of a crashed application again."""
        self.applications[name] = self._started(self.applications[name])

    def _gateway_catalog(self) -> str | None:
        gateway = self.applications.get(names.GATEWAY_APPLICATION)
        if gateway is None or gateway.status != "RUNNING" or gateway.config is None:
            return None
        text = gateway.config["deployments"][0]["user_config"]["catalog"]
        return Catalog.parse(packing.unpack(text)).revision

    def _ended(self, job: Job) -> Job:
        if self.failing_jobs is not None:
            return replace(job, status=JobStatus.FAILED, message=self.failing_jobs, ended_at=self.now)
        request = self.requests[job.id]
        collection = request["collection"]
        self.collections |= {collection, names.ledger_collection(collection)}
        self.reports[collection] = built(self, request)
        return replace(job, status=JobStatus.SUCCEEDED, ended_at=self.now)


class FakeCluster:
    """The Kubernetes API of a FakeWorld."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world

    async def list(self, kind: Kind) -> list[Resource]:
        return [item for item in self.world.resources.values() if item.key.kind is kind]

    async def apply_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
        present = self.world.resources.get(resource.key)
        if present is not None:
            self.world.resources[resource.key] = replace(
                present, status=json.loads(json.dumps(status)), resource_version=self._version()
            )
        self.world.wrote(f"status {resource.key.name}")
        return self.world.resources.get(resource.key)

    async def add_finalizer(self, resource: Resource) -> None:
        present = self.world.resources[resource.key]
        self.world.resources[resource.key] = replace(present, finalizers=(names.FINALIZER,))
        self.world.wrote(f"finalizer {resource.key.name}")

    async def remove_finalizer(self, resource: Resource) -> None:
        self.world.resources.pop(resource.key, None)
        self.world.wrote(f"no finalizer {resource.key.name}")

    async def post_event(self, resource: Resource, event: Event) -> None:
        self.world.events.append((resource.key.name, event.reason))

    async def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.world.config_maps.get((namespace, name))

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.world.secrets.get((namespace, name))

    async def api_keys(self) -> Mapping[str, str]:
        return {"default": "0" * 64}

    async def revisions(self, namespace: str) -> ListedRevisions:
        self.world.revision_lists += 1
        return ListedRevisions(list(self.world.stored), str(self.world.version))

    async def watch_revisions(self, namespace: str, since: str) -> AsyncGenerator[RevisionChange, None]:
        yield RevisionChange(since)

    async def store_revision(
        self, owner: Resource, revision: str, number: int, data: Mapping[str, Any]
    ) -> StoredRevision:
        name = f"{owner.key.name}-{revision}"
        if self._stored(name) is None:
            content = json.loads(json.dumps(data))
            stored = StoredRevision(
                name,
                owner.uid,
                number,
                revision,
                content,
                int(self.world.now),
                namespace=owner.key.namespace,
                uid=f"uid-{name}-{self._version()}",
                resource_version=self._version(),
                owner=owner.key,
            )
            self.world.stored.append(stored)
        self.world.wrote(f"revision {name}")
        found = self._stored(name)
        assert found is not None
        return found

    async def renumber_revision(self, namespace: str, name: str, number: int) -> StoredRevision | None:
        self._change(name, number=number)
        self.world.wrote(f"number of {name}")
        return self._stored(name)

    async def abort_revision(self, namespace: str, name: str, why: str) -> StoredRevision | None:
        if self.world.notes_refused:
            raise Unavailable("the API server refused to patch controllerrevisions")
        self._change(name, aborted=why)
        self.world.wrote(f"aborted {name}")
        return self._stored(name)

    def _change(self, name: str, **changes: Any) -> None:
        changes["resource_version"] = self._version()
        stored = self.world.stored
        self.world.stored = [replace(item, **changes) if item.name == name else item for item in stored]

    def _stored(self, name: str) -> StoredRevision | None:
        return next((item for item in self.world.stored if item.name == name), None)

    def _version(self) -> str:
        self.world.version += 1
        return str(self.world.version)

    async def note_use(self, namespace: str, name: str, when: int) -> StoredRevision | None:
        self._change(name, used=when)
        self.world.wrote(f"use of {name}")
        return self._stored(name)

    async def delete_revision(self, namespace: str, name: str) -> None:
        self.world.stored = [item for item in self.world.stored if item.name != name]
        self.world.wrote(f"no revision {name}")


class FakeOperator:
    """An operator on a FakeWorld; `restart` forgets everything it held in memory."""

    def __init__(self, world: FakeWorld, **settings: Any) -> None:
        self.world = world
        self.settings = OperatorSettings(**settings)
        self.restart()

    def restart(self) -> None:
        """A new process: an empty cache and no memory."""
        self.cache = ResourceCache()
        world, settings, cluster = self.world, self.settings, FakeCluster(self.world)
        self.revisions = Revisions(cluster)
        self.enqueued: list[Key] = []
        self.reconciler = Reconciler(
            cluster,
            FakeServe(world),
            FakeStore(world),
            self.cache,
            self.revisions,
            settings,
            lambda: world.now,
            self.enqueued.append,
        )

    async def once(self) -> None:
        """Reconcile everything once, as a resync does."""
        await self.revisions.relist("")
        for kind in Kind:
            listed = [item for item in self.world.resources.values() if item.key.kind is kind]
            self.cache.replace(kind, listed)
        await self.reconciler.resync()
        await self.reconcile_all()

    async def reconcile_all(self) -> None:
        """Reconcile everything once, as after events."""
        for key in sorted(self.world.resources):
            present = self.world.resources.get(key)
            if present is not None:
                self.cache.put(present)
                await self.reconciler.reconcile(key)

    async def settle(self, rounds: int = 40) -> None:
        """Reconcile and let time pass until several rounds in a row write nothing."""
        quiet = 0
        for _ in range(rounds):
            before = len(self.world.writes)
            await self.once()
            self.world.tick()
            quiet = quiet + 1 if len(self.world.writes) == before and not self._waits() else 0
            if quiet == QUIET_ROUNDS:
                return
        raise AssertionError(f"still writing after {rounds} rounds: {self.world.writes[-10:]}")

    async def settle_rounds(self, rounds: int) -> None:
        """Reconcile and let a second pass, that many times: for a state that is not the last one."""
        for _ in range(rounds):
            await self.once()
            self.world.tick()

    def _waits(self) -> bool:
        starting = any(app.status in ("DEPLOYING", "DELETING") for app in self.world.applications.values())
        working = any(job.status is JobStatus.RUNNING for job in self.world.jobs.values())
        reconciling = any(
            condition["type"] == "Reconciling"
            for resource in self.world.resources.values()
            for condition in resource.status.get("conditions", [])
        )
        return starting or working or reconciling


def ready(world: FakeWorld, key: Key) -> tuple[str, str]:
    """Status and reason of the Ready condition."""
    conditions = world.resources[key].status.get("conditions", [])
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Ready"), ("", ""))
