# SPDX-License-Identifier: Apache-2.0
"""Names that both sides must agree on: ids clients see, Ray applications, Weaviate collections, revisions.

Everything here is a pure function of its arguments, so that a restarted operator arrives at the same names.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

GROUP = "lateen.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/finalizer"
FIELD_MANAGER = "lateen-operator"
SYNC_ANNOTATION = f"{GROUP}/sync"
"""Any new value of this annotation on a RAGIndex asks for one synchronization now."""

API_KEY_LABEL = f"{GROUP}/api-key"
"""Secrets with this label in the operator's namespace hold one client key each, under `data.key`."""

OWNER_LABEL = f"{GROUP}/owner-uid"
"""On a ControllerRevision: uid of the resource whose revision it is."""

REVISION_LABEL = f"{GROUP}/revision"
"""On a ControllerRevision: the revision."""

ABORTED_ANNOTATION = f"{GROUP}/aborted"
"""On a ControllerRevision: why its rollout was given up. Whoever removes it asks for another try."""

USED_ANNOTATION = f"{GROUP}/last-used"
"""On a ControllerRevision of a PromptTemplate: when a request last used it, RFC 3339, as of the last note."""

GATEWAY_APPLICATION = "gateway"
GATEWAY_DEPLOYMENT = "Gateway"
MODEL_DEPLOYMENT = "Model"
"""Name of the Ray Serve deployment of the model inside each model application."""

FRONT_DEPLOYMENT = "Front"
"""Name of the deployment beside it that Ray Serve takes for the way in; it has no replicas."""

REVISION_LENGTH = 10


def revision(content: Mapping[str, Any]) -> str:
    """Hash of JSON-like `content`: ten lowercase hex digits, independent of key order."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:REVISION_LENGTH]


def client_id(namespace: str, name: str) -> str:
    """The id clients use (`model=`, `prompt.id`, `vector_store_ids`): `name` in namespace `default`, else `namespace.name`.

    Unambiguous because neither names of our kinds nor namespaces contain a dot.
    """
    return name if namespace == "default" else f"{namespace}.{name}"


def neighbour_id(client: str, name: str) -> str:
    """The id clients use for `name` in the namespace of the resource that they call `client`."""
    namespace, dot, _ = client.rpartition(".")
    return f"{namespace}{dot}{name}"


def application(namespace: str, name: str, model_revision: str) -> str:
    """The Ray Serve application of one model revision; `_` cannot occur in Kubernetes names, so it separates safely."""
    return f"{namespace}_{name}_{model_revision}"


def application_owner(application_name: str) -> tuple[str, str, str] | None:
    """`(namespace, name, revision)` of a model application's name; None for any other application."""
    parts = application_name.split("_")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def _weaviate_word(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text.title())


def index_prefix(namespace: str, name: str, uid: str) -> str:
    """What every Weaviate name of one RAGIndex starts with; the uid keeps indexes apart, the rest is for people."""
    return f"Lateen_{_weaviate_word(namespace)}_{_weaviate_word(name)}_{uid.replace('-', '')[:12]}"


def index_alias(namespace: str, name: str, uid: str) -> str:
    """The Weaviate alias that queries of one RAGIndex go through."""
    return f"{index_prefix(namespace, name, uid)}_live"


def index_collection(namespace: str, name: str, uid: str, index_revision: str) -> str:
    """The Weaviate collection that holds one revision's chunks."""
    return f"{index_prefix(namespace, name, uid)}_r{index_revision}"


def ledger_collection(collection: str) -> str:
    """The collection beside `collection` that records which documents it holds and how the last build went."""
    return f"{collection}_ledger"


FILES_COLLECTION = "Lateen_Files"
"""The Weaviate collection of the files that clients have uploaded, with all their bytes."""


def pushed_collection(namespace: str, name: str, uid: str) -> str:
    """The Weaviate collection that says which of these files clients have put into one RAGIndex."""
    return f"{index_prefix(namespace, name, uid)}_pushed"


def key_digest(key: str) -> str:
    """SHA-256 of a client key in hex.

    A plain hash is enough because keys are generated with 256 bits of entropy; short keys are refused
    by the operator (see `MIN_KEY_LENGTH`).
    """
    return hashlib.sha256(key.encode()).hexdigest()


MIN_KEY_LENGTH = 24
