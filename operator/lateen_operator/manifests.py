# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects as JSON, read into and built from the operator's own values; pure.

`cluster.py` sends and receives them, `handlers.py` reads watch events with `resource`.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lateen_api import names
from lateen_operator.leader import Lease
from lateen_operator.seams import Event, Key, Kind, Resource, StoredRevision

MAX_NOTE = 1024
"""Characters the API server takes as an Event's note."""

_SHORT_NAMES = {Kind.MODEL_DEPLOYMENT: "md", Kind.PROMPT_TEMPLATE: "pt", Kind.RAG_INDEX: "rag"}


def resource(kind: Kind, body: Mapping[str, Any]) -> Resource:
    """One of our resources out of a list or a watch event."""
    metadata = body["metadata"]
    return Resource(
        key=Key(kind, metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        created=_unix(metadata["creationTimestamp"]),
        spec=dict(body.get("spec") or {}),
        status=dict(body.get("status") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        finalizers=tuple(metadata.get("finalizers") or ()),
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def status(of: Resource, content: Mapping[str, Any]) -> dict[str, Any]:
    """What server-side apply takes as `of`'s status.

    No uid: the status subresource does not compare it. A namesake created meanwhile is put right by its own
    reconcile.
    """
    return {
        "apiVersion": names.API_VERSION,
        "kind": of.key.kind.value,
        "metadata": {"name": of.key.name, "namespace": of.key.namespace},
        "status": dict(content),
    }


def finalizers(of: Resource, wanted: Sequence[str]) -> dict[str, Any]:
    """A merge patch that sets the finalizers of `of`, refused when anybody has changed it meanwhile."""
    version = {"resourceVersion": of.resource_version, "uid": of.uid}
    return {"metadata": {**version, "finalizers": list(wanted)}}


def event_name(about: Resource, event: Event) -> str:
    """Name of the Event: the same for the same message about the same object."""
    content = "\0".join((about.uid, event.type, event.reason, event.message))
    return f"{about.key.name}.{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def event(about: Resource, what: Event, instance: str, now: datetime) -> dict[str, Any]:
    """The events.k8s.io/v1 Event to create."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": event_name(about, what), "namespace": about.key.namespace},
        "eventTime": micro_time(now),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": instance,
        "action": "Reconcile",
        "type": what.type,
        "reason": what.reason,
        "note": what.message[:MAX_NOTE],
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": about.key.kind.value,
            "namespace": about.key.namespace,
            "name": about.key.name,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        },
    }


def event_series(count: int, now: datetime) -> dict[str, Any]:
    """A merge patch that says how often an Event happened; the API server wants at least 2."""
    return {"series": {"count": max(count, 2), "lastObservedTime": micro_time(now)}}


def config_map(body: Mapping[str, Any]) -> dict[str, bytes]:
    """Content of a ConfigMap, data and binaryData, by key."""
    content = {key: text.encode() for key, text in (body.get("data") or {}).items()}
    binary = {key: base64.b64decode(text) for key, text in (body.get("binaryData") or {}).items()}
    return content | binary


def secret(body: Mapping[str, Any]) -> dict[str, bytes]:
    """Content of a Secret by key."""
    return {key: base64.b64decode(text) for key, text in (body.get("data") or {}).items()}


def api_key(body: Mapping[str, Any]) -> str | None:
    """The client key in a Secret, without the line break that editors leave; None when it is not usable."""
    try:
        key = base64.b64decode((body.get("data") or {}).get("key", "")).decode().strip()
    except ValueError:
        return None
    return key if len(key) >= names.MIN_KEY_LENGTH else None


def revision_name(owner: Resource, revision: str) -> str:
    """Name of the ControllerRevision of one revision of `owner`."""
    return f"{owner.key.name}-{_SHORT_NAMES[owner.key.kind]}-{revision}"


def revision(owner: Resource, revision_hash: str, number: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """The ControllerRevision to create."""
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": owner.key.kind.value,
        "name": owner.key.name,
        "uid": owner.uid,
        "controller": True,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(owner, revision_hash),
            "namespace": owner.key.namespace,
            "labels": {names.OWNER_LABEL: owner.uid, names.REVISION_LABEL: revision_hash},
            "ownerReferences": [reference],
        },
        "revision": number,
        "data": dict(data),
    }


def is_revision_of(owner: Resource, body: Mapping[str, Any]) -> bool:
    """Whether a ControllerRevision belongs to `owner`, and not to a namesake before it."""
    return bool((body["metadata"].get("labels") or {}).get(names.OWNER_LABEL) == owner.uid)


def stored_revision(body: Mapping[str, Any]) -> StoredRevision:
    """A ControllerRevision out of a list, a watch event or the reply to a write."""
    metadata = body["metadata"]
    return StoredRevision(
        name=metadata["name"],
        owner_uid=metadata["labels"][names.OWNER_LABEL],
        number=body.get("revision", 0),
        revision=metadata["labels"].get(names.REVISION_LABEL, ""),
        data=_mapping(body.get("data")),
        created=_unix(metadata["creationTimestamp"]),
        aborted=(metadata.get("annotations") or {}).get(names.ABORTED_ANNOTATION, ""),
        used=_noted_use(metadata.get("annotations") or {}),
        namespace=metadata["namespace"],
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        owner=_owner(metadata),
    )


def _mapping(data: Any) -> dict[str, Any]:
    # The API server takes any JSON; what nobody of ours has written is read as nothing, and must stop nothing.
    return dict(data) if isinstance(data, Mapping) else {}


def _owner(metadata: Mapping[str, Any]) -> Key | None:
    kinds = {kind.value: kind for kind in Kind}
    for reference in metadata.get("ownerReferences") or ():
        if reference["apiVersion"] == names.API_VERSION and reference["kind"] in kinds:
            return Key(kinds[reference["kind"]], metadata["namespace"], reference["name"])
    return None


def use_note(when: int) -> dict[str, Any]:
    """A merge patch that notes on a ControllerRevision when it was last used (Unix time, seconds)."""
    noted = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"annotations": {names.USED_ANNOTATION: noted}}}


def _noted_use(annotations: Mapping[str, str]) -> int:
    # Anybody may have written there: what is no time is no note.
    try:
        return _unix(annotations[names.USED_ANNOTATION])
    except (KeyError, ValueError):
        return 0


def lease(body: Mapping[str, Any]) -> Lease:
    """A coordination.k8s.io Lease as the API server shows it."""
    spec = body.get("spec") or {}
    return Lease(
        holder=spec.get("holderIdentity") or "",
        duration=float(spec.get("leaseDurationSeconds") or 0),
        acquired=_moment(spec.get("acquireTime")),
        renewed=_moment(spec.get("renewTime")),
        transitions=spec.get("leaseTransitions") or 0,
        version=body["metadata"]["resourceVersion"],
    )


def lease_body(namespace: str, name: str, content: Lease) -> dict[str, Any]:
    """The Lease to create, or to replace the version that `content` names."""
    metadata = {"name": name, "namespace": namespace}
    if content.version:
        metadata["resourceVersion"] = content.version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": content.holder,
            "leaseDurationSeconds": max(1, round(content.duration)),
            "acquireTime": micro_time(content.acquired) if content.acquired else None,
            "renewTime": micro_time(content.renewed) if content.renewed else None,
            "leaseTransitions": content.transitions,
        },
    }


def micro_time(moment: datetime) -> str:
    """A moment as Kubernetes' MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(timestamp: str | None) -> datetime | None:
    return datetime.fromisoformat(timestamp) if timestamp else None


def _unix(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp())
