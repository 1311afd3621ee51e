# SPDX-License-Identifier: Apache-2.0
"""The operator's only Kubernetes I/O: `seams.Cluster` and `leader.Leases` over the official client.

Wired by `main.py`, used by `reconcile/` and `leader.py`; how requests are made is said in `api_server.py`.
"""

import contextlib
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

from lateen_api import names
from lateen_operator import manifests
from lateen_operator.api_server import APPLY, CONFLICT, GONE, YAML, ApiServer, Body, OnRequest, Type
from lateen_operator.event_log import EventLog
from lateen_operator.leader import Lease
from lateen_operator.seams import (
    Event,
    Kind,
    ListedRevisions,
    Resource,
    RevisionChange,
    StoredRevision,
    Unavailable,
)

_ATTEMPTS = 5
"""Times a finalizer is tried when others change the resource at the same moment."""

log = structlog.get_logger(__name__)

_CONFIG_MAPS = Type("", "v1", "configmaps")
_SECRETS = Type("", "v1", "secrets")
_REVISIONS = Type("apps", "v1", "controllerrevisions")
_EVENTS = Type("events.k8s.io", "v1", "events")
_LEASES = Type("coordination.k8s.io", "v1", "leases")


@contextlib.asynccontextmanager
async def connect(
    namespace: str, watch_namespaces: Sequence[str], on_request: OnRequest
) -> AsyncIterator["KubernetesCluster"]:
    """A cluster from `KUBECONFIG` (or its default place), or inside a pod from the service account.

    Raises Unavailable when neither can be read.
    """
    configuration = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
            await config.load_kube_config(file, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError) as error:
        raise Unavailable(f"no access to Kubernetes: {error}") from error
    configuration.connection_pool_maxsize += max(1, len(watch_namespaces))  # each watch keeps one
    async with client.ApiClient(configuration) as api:
        yield KubernetesCluster(api, namespace, watch_namespaces, on_request)


class KubernetesCluster:
    """`seams.Cluster` and `leader.Leases`; to be had from `connect`.

    Args:
        api: Connected client.
        namespace: Where the Secrets with client keys are.
        watch_namespaces: Namespaces to list; none: all.
        on_request: Told verb and resource of each request.

    """

    def __init__(
        self, api: client.ApiClient, namespace: str, watch_namespaces: Sequence[str], on_request: OnRequest
    ) -> None:
        self._server = ApiServer(api, on_request)
        self._namespace = namespace
        self._namespaces = tuple(watch_namespaces)
        self._events = EventLog(time.monotonic)
        self._refused_keys: dict[str, str] = {}

    async def list(self, kind: Kind) -> list[Resource]:
        """All resources of a kind in the watched namespaces, straight from the API server."""
        return [
            manifests.resource(kind, item)
            for namespace in self._namespaces or ("",)
            async for page, _ in self._server.pages(_ours(kind), namespace)
            for item in page
        ]

    async def apply_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
        """Server-side apply `status` as the whole of what this operator says; the resource with it, None: it is gone."""
        kind, key = _ours(resource.key.kind), resource.key
        found = await self._server.ask(
            "apply",
            f"{kind.plural}/status",
            "PATCH",
            kind.path(key.namespace, key.name, "status"),
            query={"fieldManager": names.FIELD_MANAGER, "force": True},
            body=manifests.status(resource, status),
            content_type=APPLY,
            accept=(GONE,),
        )
        return manifests.resource(key.kind, found) if found else None

    async def add_finalizer(self, resource: Resource) -> None:
        """Put `names.FINALIZER` on a resource that is not being deleted."""

        def added(found: Resource) -> Sequence[str]:
            unwanted = found.deleting or names.FINALIZER in found.finalizers
            return found.finalizers if unwanted else (*found.finalizers, names.FINALIZER)

        await self._change_finalizers(resource, added)

    async def remove_finalizer(self, resource: Resource) -> None:
        """Take `names.FINALIZER` off; other finalizers stay. A resource that is gone is no error."""

        def removed(found: Resource) -> Sequence[str]:
            return tuple(name for name in found.finalizers if name != names.FINALIZER)

        await self._change_finalizers(resource, removed)

    async def post_event(self, resource: Resource, event: Event) -> None:
        """Post (or count up) an events.k8s.io/v1 Event. A failure to post is logged, not raised."""
        times = self._events.due(resource, event)
        if not times:
            return
        try:
            self._events.written(resource, event, await self._post(resource, event, times))
        except Unavailable as error:
            self._events.failed(resource, event)
            log.warning("an event could not be posted", reason=event.reason, error=str(error))

    async def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Content of a ConfigMap, data and binaryData; None when there is none."""
        found = await self._server.get(_CONFIG_MAPS, namespace, name)
        return manifests.config_map(found) if found else None

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Content of a Secret by key, never to be logged; None when there is none."""
        found = await self._server.get(_SECRETS, namespace, name)
        return manifests.secret(found) if found else None

    async def api_keys(self) -> Mapping[str, str]:
        """Digest of each client key by the name of its Secret; keys that are too short are left out with a warning."""
        selector = f"{names.API_KEY_LABEL}=true"
        digests: dict[str, str] = {}
        async for page, _ in self._server.pages(_SECRETS, self._namespace, labelSelector=selector):
            for secret in page:
                key = manifests.api_key(secret)
                if key is None:
                    self._warn_of_key(secret["metadata"])
                else:
                    digests[secret["metadata"]["name"]] = names.key_digest(key)
        return dict(sorted(digests.items()))

    async def revisions(self, namespace: str) -> ListedRevisions:
        """All ControllerRevisions labelled as ours in a namespace, "": in all, straight from the API server."""
        found, version = list[StoredRevision](), ""
        pages = self._server.pages(_REVISIONS, namespace, labelSelector=names.OWNER_LABEL)
        async for page, listed in pages:  # of each page only what is needed stays
            found += map(manifests.stored_revision, page)
            version = listed
        return ListedRevisions(found, version)

    async def watch_revisions(self, namespace: str, since: str) -> AsyncGenerator[RevisionChange, None]:
        """What happens to those of `revisions` after the version `since`; ends in time. Raises Expired."""
        events = self._server.watch(
            _REVISIONS, namespace, labelSelector=names.OWNER_LABEL, resourceVersion=since
        )
        async with contextlib.aclosing(events):
            async for change, body in events:
                version = body["metadata"]["resourceVersion"]
                item = manifests.stored_revision(body) if change != "BOOKMARK" else None
                yield RevisionChange(version, item, deleted=change == "DELETED")

    async def store_revision(
        self, owner: Resource, revision: str, number: int, data: Mapping[str, Any]
    ) -> StoredRevision:
        """Create the ControllerRevision `<name>-<kind's short name>-<revision>` owned by `owner`, or find it there.

        One that is left of a deleted namesake of `owner` is replaced.
        """
        namespace, body = owner.key.namespace, manifests.revision(owner, revision, number, data)
        name = body["metadata"]["name"]
        created = await self._server.create(_REVISIONS, namespace, body, YAML)
        if created is None:
            created = await self._server.get(_REVISIONS, namespace, name)
            if created is None or not manifests.is_revision_of(owner, created):
                await self.delete_revision(namespace, name)
                created = await self._server.create(_REVISIONS, namespace, body, YAML)
        if created is None:
            raise Unavailable(f"controllerrevisions {namespace}/{name} is still in the way")
        return manifests.stored_revision(created)

    async def renumber_revision(self, namespace: str, name: str, number: int) -> StoredRevision | None:
        """Make a ControllerRevision the newest of its owner's, as `kubectl rollout undo` does; None: it is gone."""
        return await self._change_revision(namespace, name, {"revision": number})

    async def abort_revision(self, namespace: str, name: str, why: str) -> StoredRevision | None:
        """Note on a ControllerRevision why its rollout was given up; None: it is gone."""
        annotations = {names.ABORTED_ANNOTATION: why}
        return await self._change_revision(namespace, name, {"metadata": {"annotations": annotations}})

    async def note_use(self, namespace: str, name: str, when: int) -> StoredRevision | None:
        """Note on a ControllerRevision when it was last used (Unix time, seconds); None: it is gone."""
        return await self._change_revision(namespace, name, manifests.use_note(when))

    async def delete_revision(self, namespace: str, name: str) -> None:
        """Delete a ControllerRevision; gone is fine."""
        path = _REVISIONS.path(namespace, name)
        await self._server.ask("delete", _REVISIONS.plural, "DELETE", path, accept=(GONE,))

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        """The Lease; None when there is none."""
        found = await self._server.get(_LEASES, namespace, name)
        return manifests.lease(found) if found else None

    async def write_lease(self, namespace: str, name: str, lease: Lease) -> Lease | None:
        """Create or replace it; None when somebody else was faster."""
        body = manifests.lease_body(namespace, name, lease)
        if not lease.version:
            written = await self._server.create(_LEASES, namespace, body)
        else:
            path = _LEASES.path(namespace, name)
            written = await self._server.ask(
                "update", _LEASES.plural, "PUT", path, body=body, accept=(GONE, CONFLICT)
            )
        return manifests.lease(written) if written else None

    async def _change_finalizers(
        self, resource: Resource, change: Callable[[Resource], Sequence[str]]
    ) -> None:
        kind, key = _ours(resource.key.kind), resource.key
        for _ in range(_ATTEMPTS):
            body = await self._server.get(kind, key.namespace, key.name)
            if body is None or body["metadata"]["uid"] != resource.uid:
                return
            found = manifests.resource(key.kind, body)
            wanted = change(found)
            if wanted == found.finalizers:
                return
            if await self._server.merge(kind, key.namespace, key.name, manifests.finalizers(found, wanted)):
                return
        raise Unavailable(f"{kind.plural} {key.namespace}/{key.name} changes too often to set its finalizers")

    async def _change_revision(self, namespace: str, name: str, patch: Body) -> StoredRevision | None:
        changed = await self._server.merge(_REVISIONS, namespace, name, patch, accept=(GONE,))
        return manifests.stored_revision(changed) if changed else None

    async def _post(self, resource: Resource, event: Event, times: int) -> int:
        """Write an Event that happened `times` times since this process started; how often it did in all."""
        namespace, name, now = (
            resource.key.namespace,
            manifests.event_name(resource, event),
            datetime.now(UTC),
        )
        body = manifests.event(resource, event, socket.gethostname(), now)
        if times == 1:
            if await self._server.create(_EVENTS, namespace, body):
                return 1
            known = await self._server.get(_EVENTS, namespace, name) or {}
            times = (known.get("series") or {}).get("count", 1) + 1
        if await self._server.merge(_EVENTS, namespace, name, manifests.event_series(times, now)):
            return times
        await self._server.create(_EVENTS, namespace, body)  # the old one expired
        return 1

    def _warn_of_key(self, metadata: Mapping[str, Any]) -> None:
        """Say once per version of a Secret that its key can't be used."""
        name, version = metadata["name"], metadata["resourceVersion"]
        if self._refused_keys.get(name) != version:
            self._refused_keys[name] = version
            needed = f"data.key needs at least {names.MIN_KEY_LENGTH} characters"
            log.warning("a client key is not used", secret=name, remedy=needed)


def _ours(kind: Kind) -> Type:
    return Type(names.GROUP, names.VERSION, kind.plural)
