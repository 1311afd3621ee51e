# SPDX-License-Identifier: Apache-2.0
"""Resources as tests apply them: small, valid, and changed by keyword."""

from collections.abc import Mapping
from typing import Any

from lateen_api import names

Manifest = dict[str, Any]

QUESTION_AND_CONTEXT = [
    {"role": "system", "content": "Answer from the text."},
    {"role": "user", "content": "{context}\n{question}"},
]


def resource(kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> Manifest:
    """One of our resources."""
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": meta, "spec": dict(spec)}


def model(namespace: str, name: str, task: str, path: str, **spec: Any) -> Manifest:
    """A ModelDeployment of the weights in `pvc://models/PATH`, cheap enough to run many side by side.

    It has one replica unless `spec` says otherwise.
    """
    number = {} if "autoscaling" in spec else {"replicas": 1}
    base = {
        "task": task,
        "source": {"uri": f"pvc://models/{path}"},
        "resources": {"cpu": "100m", "memory": "256Mi"},
    }
    return resource("ModelDeployment", namespace, name, base | number | spec)


def prompt(namespace: str, name: str, **spec: Any) -> Manifest:
    """A PromptTemplate with the variable `question` and the retrieved `context`."""
    base: dict[str, Any] = {
        "version": "1",
        "messages": QUESTION_AND_CONTEXT,
        "variables": [{"name": "question"}, {"name": "context", "from": "retrieval"}],
    }
    return resource("PromptTemplate", namespace, name, base | spec)


def index(
    namespace: str, name: str, embedder: str, sources: Mapping[str, Mapping[str, Any]], **spec: Any
) -> Manifest:
    """A RAGIndex; `sources` maps a source's name to its type and settings."""
    base = {
        "sources": [{"name": source, **settings} for source, settings in sources.items()],
        "embedding": {"modelRef": {"name": embedder}},
        "chunking": {"size": 64, "overlap": 8},
    }
    return resource("RAGIndex", namespace, name, base | spec)


def inline(documents: Mapping[str, str]) -> dict[str, Any]:
    """An inline source of documents by file name."""
    return {"inline": {"documents": [{"name": name, "text": text} for name, text in documents.items()]}}


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> Manifest:
    """A ConfigMap."""
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(data)}


def secret(namespace: str, name: str, values: Mapping[str, str]) -> Manifest:
    """A Secret."""
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": dict(values)}


def namespace_manifest(name: str) -> Manifest:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
