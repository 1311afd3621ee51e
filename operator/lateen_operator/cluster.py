# SPDX-License-Identifier: Apache-2.0
"""The operator's only Kubernetes I/O: `seams.Cluster` and `leader.Leases` over the official client.

Wired by `main.py`, used by `reconcile/` and `leader.py`. Every request is counted through `on_request`, has a
time limit and one field manager; a failure becomes `Unavailable`, which names the verb and the resource.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import structlog
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException

from lateen_api import names
from lateen_operator import manifests
from lateen_operator.event_log import EventLog
from lateen_operator.leader import Lease
from lateen_operator.seams import Event, Kind, Resource, StoredRevision, Unavailable

_TIMEOUT = 15.0
_PAGE = 500
_ATTEMPTS = 5
"""Times a finalizer is tried when others change the resource at the same moment."""

_MAX_REASON = 300
_GONE, _CONFLICT = 404, 409
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"

OnRequest = Callable[[str, str], None]
"""Told verb and resource of each request before it is sent."""

_Method = Callable[..., Awaitable[Any]]
_Body = dict[str, Any]
_Bodies = list[_Body]

log = structlog.get_logger(__name__)


class _Type(NamedTuple):
    group: str
    version: str
    plural: str


_REVISIONS = _Type("apps", "v1", "controllerrevisions")
_EVENTS = _Type("events.k8s.io", "v1", "events")
_LEASES = _Type("coordination.k8s.io", "v1", "leases")


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
        self._api = api
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._namespace = namespace
        self._namespaces = tuple(watch_namespaces)
        self._on_request = on_request
        self._events = EventLog(time.monotonic)
        self._refused_keys: dict[str, str] = {}

    async def list(self, kind: Kind) -> list[Resource]:
        """All resources of a kind in the watched namespaces, straight from the API server."""
        return [manifests.resource(kind, item) for item in await self._list(_ours(kind))]

    async def apply_status(self, resource: Resource, status: Mapping[str, Any]) -> None:
        """Server-side apply `status` as the whole of what this operator says; a resource that is gone is no error."""
        kind, key = _ours(resource.key.kind), resource.key
        await self._ask(
            "apply",
            f"{kind.plural}/status",
            self._objects.patch_namespaced_custom_object_status,
            *(kind.group, kind.version, key.namespace, kind.plural, key.name),
            manifests.status(resource, status),
            accept=(_GONE,),
            field_manager=names.FIELD_MANAGER,
            force=True,
            _content_type=_APPLY,
        )

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
        read = self._core.read_namespaced_config_map
        found = await self._ask("get", "configmaps", read, name, namespace, accept=(_GONE,))
        return manifests.config_map(self._api.sanitize_for_serialization(found)) if found else None

    async def api_keys(self) -> Mapping[str, str]:
        """Digest of each client key by the name of its Secret; keys that are too short are left out with a warning."""
        listing, selector = self._core.list_namespaced_secret, f"{names.API_KEY_LABEL}=true"
        found = await self._ask("list", "secrets", listing, self._namespace, label_selector=selector)
        digests: dict[str, str] = {}
        for secret in self._api.sanitize_for_serialization(found)["items"]:
            key = manifests.api_key(secret)
            if key is None:
                self._warn_of_key(secret["metadata"])
            else:
                digests[secret["metadata"]["name"]] = names.key_digest(key)
        return dict(sorted(digests.items()))

    async def revisions(self) -> Sequence[StoredRevision]:
        """All ControllerRevisions labelled as ours."""
        items = await self._list(_REVISIONS, label_selector=manifests.OWNER_LABEL)
        return [manifests.stored_revision(item) for item in items]

    async def store_revision(
        self, owner: Resource, revision: str, number: int, data: Mapping[str, Any]
    ) -> None:
        """Create the ControllerRevision `<name>-<kind's short name>-<revision>` owned by `owner`; existing is fine.

        One that is left of a deleted namesake of `owner` is replaced.
        """
        namespace, body = owner.key.namespace, manifests.revision(owner, revision, number, data)
        if await self._create(_REVISIONS, namespace, body):
            return
        found = await self._get(_REVISIONS, namespace, body["metadata"]["name"])
        if found and (found["metadata"].get("labels") or {}).get(manifests.OWNER_LABEL) == owner.uid:
            return
        await self.delete_revision(namespace, body["metadata"]["name"])
        if not await self._create(_REVISIONS, namespace, body):
            raise Unavailable(
                f"controllerrevisions {namespace}/{body['metadata']['name']} is still in the way"
            )

    async def delete_revision(self, namespace: str, name: str) -> None:
        """Delete a ControllerRevision; gone is fine."""
        group, version, plural = _REVISIONS
        delete = self._objects.delete_namespaced_custom_object
        await self._ask("delete", plural, delete, group, version, namespace, plural, name, accept=(_GONE,))

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        """The Lease; None when there is none."""
        found = await self._get(_LEASES, namespace, name)
        return manifests.lease(found) if found else None

    async def write_lease(self, namespace: str, name: str, lease: Lease) -> Lease | None:
        """Create or replace it; None when somebody else was faster."""
        body = manifests.lease_body(namespace, name, lease)
        if not lease.version:
            written = await self._create(_LEASES, namespace, body)
        else:
            group, version, plural = _LEASES
            replace, where = (
                self._objects.replace_namespaced_custom_object,
                (group, version, namespace, plural),
            )
            written = await self._ask(
                "update", plural, replace, *where, name, body, accept=(_GONE, _CONFLICT)
            )
        return manifests.lease(written) if written else None

    async def _change_finalizers(
        self, resource: Resource, change: Callable[[Resource], Sequence[str]]
    ) -> None:
        kind, key = _ours(resource.key.kind), resource.key
        for _ in range(_ATTEMPTS):
            body = await self._get(kind, key.namespace, key.name)
            if body is None or body["metadata"]["uid"] != resource.uid:
                return
            found = manifests.resource(key.kind, body)
            wanted = change(found)
            if wanted == found.finalizers:
                return
            if await self._merge(kind, key.namespace, key.name, manifests.finalizers(found, wanted)):
                return
        raise Unavailable(f"{kind.plural} {key.namespace}/{key.name} changes too often to set its finalizers")

    async def _post(self, resource: Resource, event: Event, times: int) -> int:
        """Write an Event that happened `times` times since this process started; how often it did in all."""
        namespace, name, now = (
            resource.key.namespace,
            manifests.event_name(resource, event),
            datetime.now(UTC),
        )
        body = manifests.event(resource, event, socket.gethostname(), now)
        if times == 1:
            if await self._create(_EVENTS, namespace, body):
                return 1
            known = await self._get(_EVENTS, namespace, name) or {}
            times = (known.get("series") or {}).get("count", 1) + 1
        if await self._merge(_EVENTS, namespace, name, manifests.event_series(times, now)):
            return times
        await self._create(_EVENTS, namespace, body)  # the old one expired
        return 1

    def _warn_of_key(self, metadata: Mapping[str, Any]) -> None:
        """Say once per version of a Secret that its key can't be used."""
        name, version = metadata["name"], metadata["resourceVersion"]
        if self._refused_keys.get(name) != version:
            self._refused_keys[name] = version
            needed = f"data.key needs at least {names.MIN_KEY_LENGTH} characters"
            log.warning("a client key is not used", secret=name, remedy=needed)

    async def _get(self, kind: _Type, namespace: str, name: str) -> _Body | None:
        """The object; None when there is none."""
        read, where = self._objects.get_namespaced_custom_object, (kind.group, kind.version, namespace)
        found: _Body | None = await self._ask(
            "get", kind.plural, read, *where, kind.plural, name, accept=(_GONE,)
        )
        return found

    async def _create(self, kind: _Type, namespace: str, body: _Body) -> _Body | None:
        """The object created; None when the name is taken."""
        create, where = self._objects.create_namespaced_custom_object, (kind.group, kind.version, namespace)
        made: _Body | None = await self._ask(
            "create", kind.plural, create, *where, kind.plural, body, accept=(_CONFLICT,)
        )
        return made

    async def _merge(self, kind: _Type, namespace: str, name: str, body: _Body) -> _Body | None:
        """The object after the merge patch; None when it is gone, or has changed since the version in `body`."""
        patch, where = self._objects.patch_namespaced_custom_object, (kind.group, kind.version, namespace)
        patched: _Body | None = await self._ask(
            "patch",
            kind.plural,
            patch,
            *(*where, kind.plural, name, body),
            accept=(_GONE, _CONFLICT),
            field_manager=names.FIELD_MANAGER,
            _content_type=_MERGE,
        )
        return patched

    async def _list(self, kind: _Type, **selectors: str) -> _Bodies:
        if not self._namespaces:
            listing = self._objects.list_cluster_custom_object
            return await self._pages(kind, listing, kind.group, kind.version, kind.plural, **selectors)
        listing, items = self._objects.list_namespaced_custom_object, _Bodies()
        for namespace in self._namespaces:
            where = (kind.group, kind.version, namespace, kind.plural)
            items += await self._pages(kind, listing, *where, **selectors)
        return items

    async def _pages(self, kind: _Type, listing: _Method, *where: str, **options: Any) -> _Bodies:
        items = _Bodies()
        while True:
            page = await self._ask("list", kind.plural, listing, *where, limit=_PAGE, **options)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items
            options["_continue"] = token

    async def _ask(
        self,
        verb: str,
        plural: str,
        method: _Method,
        *where: Any,
        accept: tuple[int, ...] = (),
        **options: Any,
    ) -> Any:
        """Send one request; None where the API server answers with a status in `accept`, else raises Unavailable."""
        self._on_request(verb, plural)
        try:
            return await method(*where, _request_timeout=_TIMEOUT, **options)
        except ApiException as error:
            if error.status in accept:
                return None
            raise Unavailable(f"the API server refused to {verb} {plural}: {_reason(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"the API server does not answer ({verb} {plural}): {said}") from error


def _ours(kind: Kind) -> _Type:
    return _Type(names.GROUP, names.VERSION, kind.plural)


def _reason(error: ApiException) -> str:
    """What the API server said, in one line."""
    try:
        said = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        said = error.reason
    return f"{error.status} {str(said or 'no explanation')[:_MAX_REASON]}"
