# SPDX-License-Identifier: Apache-2.0
"""What the operator sees of the world, and the three seams it sees it through.

Frozen values and protocols only. `cluster.py`, `ray.py` and `weaviate.py` implement the protocols; `reconcile/`
uses them; unit tests fake them here and nowhere else.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from lateen_api import pushing
from lateen_api.gateway_report import Facts, Traffic
from lateen_api.index_build import BuildReport


class Kind(StrEnum):
    """The kinds this operator reconciles."""

    MODEL_DEPLOYMENT = "ModelDeployment"
    PROMPT_TEMPLATE = "PromptTemplate"
    RAG_INDEX = "RAGIndex"

    @property
    def plural(self) -> str:
        """Name of the kind in API paths."""
        return {"RAGIndex": "ragindexes"}.get(self.value, self.value.lower() + "s")


REVISIONS = "ControllerRevision"
"""The kind that the operator keeps and watches beside its own."""

WATCHED: tuple[str, ...] = (*(kind.value for kind in Kind), REVISIONS)
"""All kinds that are watched."""


@dataclass(frozen=True, order=True)
class Key:
    """Identifies one resource."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True)
class Resource:
    """One of our resources as the API server last showed it."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created: int
    """Unix time in seconds."""
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    annotations: Mapping[str, str]
    finalizers: tuple[str, ...]
    deleting: bool


@dataclass(frozen=True)
class StoredRevision:
    """A ControllerRevision: an immutable copy of a spec."""

    name: str
    owner_uid: str
    number: int
    """Grows with each new revision of an owner."""
    revision: str
    data: Mapping[str, Any]
    created: int
    aborted: str = ""
    """Why its rollout was given up; empty when it was not."""
    used: int = 0
    """Unix time of the last use that was noted on it; 0: none was."""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    owner: Key | None = None
    """The resource whose revision it is, as its owner reference names it."""


@dataclass(frozen=True)
class ListedRevisions:
    """The ControllerRevisions that were there at one moment."""

    items: Sequence[StoredRevision]
    version: str
    """Resource version of that moment: what happens later a watch from there tells."""


@dataclass(frozen=True)
class RevisionChange:
    """What a watch of ControllerRevisions tells."""

    version: str
    """Resource version up to which everything has been told now."""
    item: StoredRevision | None = None
    """What has changed; None: nothing, only time has passed."""
    deleted: bool = False


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event to post about a resource."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Backoff:
    """A wish to be looked at again, ever later for as long as the same is wished: a change is told by an event anyway."""

    first: float
    """Seconds until the first look."""
    longest: float
    """Seconds between later looks, at most."""
    about: str = ""
    """What is waited for: something else is waited for anew."""


Wish = float | Backoff | None
"""When to look again: in so many seconds, ever later, or at the next change or resync."""


class Unavailable(Exception):
    """Ray, Weaviate or the API server did not answer, or answered that it can't now. Carries no secret."""


class Expired(Unavailable):
    """The API server no longer knows what happened since the version that a watch was to begin with."""


class RayUnavailable(Unavailable):
    """Ray did not answer, or answered that it can't now."""


class StoreUnavailable(Unavailable):
    """Weaviate did not answer, or answered that it can't now."""


class Cluster(Protocol):
    """The Kubernetes API."""

    async def list(self, kind: Kind) -> list[Resource]:
        """All resources of a kind in the watched namespaces, straight from the API server."""
        ...

    async def apply_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
        """Server-side apply `status` as the whole of what this operator says; the resource with it, None: it is gone."""
        ...

    async def add_finalizer(self, resource: Resource) -> None:
        """Put `names.FINALIZER` on a resource that is not being deleted."""
        ...

    async def remove_finalizer(self, resource: Resource) -> None:
        """Take `names.FINALIZER` off; other finalizers stay. A resource that is gone is no error."""
        ...

    async def post_event(self, resource: Resource, event: Event) -> None:
        """Post (or count up) an events.k8s.io/v1 Event. A failure to post is logged, not raised."""
        ...

    async def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Content of a ConfigMap, data and binaryData; None when there is none."""
        ...

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Content of a Secret by key, never to be logged; None when there is none."""
        ...

    async def api_keys(self) -> Mapping[str, str]:
        """Digest of each client key by the name of its Secret; keys that are too short are left out with a warning."""
        ...

    async def revisions(self, namespace: str) -> ListedRevisions:
        """All ControllerRevisions labelled as ours in a namespace, "": in all, straight from the API server."""
        ...

    def watch_revisions(self, namespace: str, since: str) -> AsyncGenerator[RevisionChange, None]:
        """What happens to those of `revisions` after the version `since`; ends in time. Raises Expired."""
        ...

    async def store_revision(
        self, owner: Resource, revision: str, number: int, data: Mapping[str, Any]
    ) -> StoredRevision:
        """Create the ControllerRevision `<name>-<kind's short word>-<revision>` owned by `owner`, or find it there."""
        ...

    async def renumber_revision(self, namespace: str, name: str, number: int) -> StoredRevision | None:
        """Make a ControllerRevision the newest of its owner's, as `kubectl rollout undo` does; None: it is gone."""
        ...

    async def abort_revision(self, namespace: str, name: str, why: str) -> StoredRevision | None:
        """Note on a ControllerRevision why its rollout was given up; None: it is gone."""
        ...

    async def note_use(self, namespace: str, name: str, when: int) -> StoredRevision | None:
        """Note on a ControllerRevision when it was last used (Unix time, seconds); None: it is gone."""
        ...

    async def delete_revision(self, namespace: str, name: str) -> None:
        """Delete a ControllerRevision; gone is fine."""
        ...


@dataclass(frozen=True)
class ServeApplication:
    """One application as Ray Serve reports it."""

    name: str
    status: str
    """NOT_STARTED, DEPLOYING, RUNNING, DEPLOY_FAILED, UNHEALTHY or DELETING."""
    message: str
    deployed_at: float
    """Unix time of the last deploy, seconds."""
    config: Mapping[str, Any] | None
    """The application's entry of the last applied config, as Ray returns it."""
    running_replicas: int
    """Replicas that serve, of all deployments; one that takes a new user_config goes on serving."""
    deployment_messages: tuple[str, ...] = ()
    """Messages of its deployments, where replica failures show."""
    target_replicas: int = 0
    """Replicas there should be now: what the config says, or what the autoscaler has decided."""
    starting_replicas: int = 0
    """Replicas that load."""
    unplaced_since: float = 0.0
    """Unix time since when a replica has waited for a node, of those that do the longest; 0: none waits."""
    failed_replicas: int = 0
    """Replicas that died since the last deploy, while Ray calls a deployment unwell; 0 once all is well again."""


@dataclass(frozen=True)
class Node:
    """A Ray node that is alive."""

    resources: Mapping[str, float]
    """Logical resources: CPU, GPU, memory (bytes), `accelerator_type:KIND`."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServeState:
    """What Ray Serve runs."""

    applications: Mapping[str, ServeApplication] = field(default_factory=dict)
    served_catalogs: frozenset[str] = frozenset()
    """Revisions of the catalogs that the gateway's replicas serve, one where they agree; empty while it is not known."""
    nodes: tuple[Node, ...] = ()
    """The nodes of the Ray cluster; empty when they are not known."""
    facts: Mapping[str, Facts] = field(default_factory=dict)
    """What replicas said of their model, by application."""
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    """Requests by application, of all gateway replicas together."""
    prompt_uses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Unix time of the last use by prompt id and revision, of all gateway replicas together, since they started."""


class JobStatus(StrEnum):
    """State of a Ray job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Job:
    """A Ray job of ours."""

    id: str
    status: JobStatus
    message: str
    """Ray's message; for a failed job the `lateen-failure` line of its log where there is one."""
    started_at: float
    """Unix time, seconds; 0 before it starts."""
    ended_at: float
    """Unix time, seconds; 0 while it runs."""


class Serve(Protocol):
    """Ray: the Serve REST API, the Jobs REST API, and the gateway's report."""

    async def observe(self) -> ServeState:
        """What runs now; raises Unavailable."""
        ...

    async def apply(self, config: Mapping[str, Any]) -> None:
        """PUT the whole declarative config; raises Unavailable."""
        ...

    async def jobs(self) -> Mapping[str, Job]:
        """All jobs whose submission id starts with `lateen-`, by id; raises Unavailable."""
        ...

    async def submit(self, job_id: str, entrypoint: str, files: Mapping[str, bytes]) -> None:
        """Upload `files` as the working directory and submit; a job that exists already is no error."""
        ...

    async def stop(self, job_id: str) -> None:
        """Ask a job to stop; one that is gone or ended is no error."""
        ...

    async def forget(self, job_id: str) -> None:
        """Delete the record of an ended job; gone is fine."""
        ...


@dataclass(frozen=True)
class StoreState:
    """What Weaviate holds of ours."""

    collections: frozenset[str] = frozenset()
    """Names of all collections that start with `Lateen_`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Collection by alias."""
    problem: str = ""
    """Why nothing of this is known: Weaviate does not answer. Empty: it does."""


@dataclass(frozen=True)
class PushState:
    """What clients have pushed into an index."""

    state: str = pushing.NOTHING
    """Changes whenever a document does."""
    oldest: float | None = None
    """Unix time of the first change after the time that was asked about; None: there was none."""


class Store(Protocol):
    """Weaviate, as far as the operator needs it."""

    async def observe(self) -> StoreState:
        """What exists now, or why that is not known: models and prompts don't wait for Weaviate."""
        ...

    async def report(self, collection: str) -> BuildReport | None:
        """The last build report of a collection's ledger; None when there is none yet."""
        ...

    async def pushed(self, collection: str, since: float) -> PushState:
        """What a collection of pushed documents holds; nothing when it is not there yet."""
        ...

    async def point_alias(self, alias: str, collection: str) -> None:
        """Create the alias or move it, atomically."""
        ...

    async def delete_alias(self, alias: str) -> None:
        """Delete an alias; gone is fine."""
        ...

    async def delete_collection(self, collection: str) -> None:
        """Delete a collection; gone is fine."""
        ...
