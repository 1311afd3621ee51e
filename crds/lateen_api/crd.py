# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinition of each kind, derived from its types; written to `crds/*.yaml` by `hack/generate`."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from lateen_api import names
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.model_status import ModelDeploymentStatus
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rag_index import RAGIndexSpec
from lateen_api.schema import MAX_NAME_LENGTH, RESOURCE_NAME_PATTERN, rule, rules
from lateen_api.status_types import PromptTemplateStatus, RAGIndexStatus
from lateen_api.structural import Node, structural

CATEGORY = "lateen"


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; `wide` ones need `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def manifest(self) -> dict[str, Any]:
        """The column as `additionalPrinterColumns` lists it."""
        priority = {"priority": 1} if self.wide else {}
        column = {"name": self.name, "type": self.type, "description": self.description}
        return column | {"jsonPath": self.path} | priority


@dataclass(frozen=True)
class Kind:
    """One kind of resource: its names, its types and what `kubectl get` shows."""

    name: str
    plural: str
    short: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...]
    id_path: str
    scale: bool = False


def _ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


def _number(name: str, path: str, description: str) -> Column:
    return Column(name, path, description, type="integer")


_REVISION = Column("Revision", ".status.revision", "Revision that is live.")

MODEL_DEPLOYMENT = Kind(
    name="ModelDeployment",
    plural="modeldeployments",
    short="md",
    spec=ModelDeploymentSpec,
    status=ModelDeploymentStatus,
    columns=(
        Column("Task", ".spec.task", "What the model does."),
        _number("Serving", ".status.readyReplicas", "Replicas that serve."),
        _number("Replicas", ".status.replicas", "Replicas there should be now."),
        _REVISION,
    ),
    id_path=".status.modelId",
    scale=True,
)
PROMPT_TEMPLATE = Kind(
    name="PromptTemplate",
    plural="prompttemplates",
    short="pt",
    spec=PromptTemplateSpec,
    status=PromptTemplateStatus,
    columns=(Column("Version", ".status.version", "The author's label of what is live."), _REVISION),
    id_path=".status.promptId",
)
RAG_INDEX = Kind(
    name="RAGIndex",
    plural="ragindexes",
    short="rag",
    spec=RAGIndexSpec,
    status=RAGIndexStatus,
    columns=(
        _number("Documents", ".status.documents", "Documents that can be found."),
        _number("Chunks", ".status.chunks", "Passages that can be found."),
        _number("Failed", ".status.failed", "Documents that could not be indexed."),
        Column("Lag", ".status.lag", "How long the last synchronization took to be live."),
        _REVISION,
    ),
    id_path=".status.vectorStoreId",
)
KINDS = (MODEL_DEPLOYMENT, PROMPT_TEMPLATE, RAG_INDEX)


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of `kind`, as it is applied."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(kind)},
        "subresources": _subresources(kind),
        "additionalPrinterColumns": [column.manifest() for column in _columns(kind)],
    }


def root_schema(kind: Kind) -> Node:
    """The schema of a whole object of `kind`."""
    spec = structural(kind.spec)
    return {
        "description": spec["description"],
        "type": "object",
        "required": ["spec"],
        **_name_rule(),
        "properties": {
            "apiVersion": {"description": f"Always {names.API_VERSION}.", "type": "string"},
            "kind": {"description": f"Always {kind.name}.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": spec | {"description": "What you ask for; the operator never writes here."},
            "status": structural(kind.status)
            | {"description": "What the operator reports; it can be rebuilt from the world."},
        },
    }


def _name_rule() -> dict[str, Any]:
    return rules(
        rule(
            f"self.metadata.name.size() <= {MAX_NAME_LENGTH}"
            f" && self.metadata.name.matches(r'{RESOURCE_NAME_PATTERN}')",
            f"metadata.name must be a DNS label of at most {MAX_NAME_LENGTH} characters: lower-case letters,"
            " digits and '-', without dots; choose a shorter or simpler name",
        )
    )


def _subresources(kind: Kind) -> dict[str, Any]:
    status: dict[str, Any] = {"status": {}}
    if not kind.scale:
        return status
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return status | {"scale": scale}


def _columns(kind: Kind) -> tuple[Column, ...]:
    return (
        Column("Ready", _ready("status"), "Whether it does what its spec says, for clients, now."),
        Column("Reason", _ready("reason"), "Why; docs/reasons.md explains each."),
        *kind.columns,
        Column("Age", ".metadata.creationTimestamp", "Time since creation.", type="date"),
        Column("Id", kind.id_path, "What clients call it.", wide=True),
        Column("Message", _ready("message"), "Why, in words, with the remedy.", wide=True),
    )
