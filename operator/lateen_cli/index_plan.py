# SPDX-License-Identifier: Apache-2.0
"""`lateen plan`: says beforehand what a changed RAGIndex does, and changes nothing."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from lateen_api import admission, crd, index_change, names
from lateen_api.conditions import Reason
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.rag_index import RAGIndexSpec
from lateen_api.status_types import RAGIndexStatus, Status
from lateen_cli import documents, index_plan_text, kept, syncing, validate
from lateen_cli.documents import Document
from lateen_cli.index_plan_text import Plan
from lateen_cli.kubectl import Kubectl, Refused
from lateen_cli.revisions import Namespace, State
from lateen_cli.state import Unusable
from lateen_cli.terminal import tell, tell_json

_CHANGES = 2
_INDEXES = f"{crd.RAG_INDEX.plural}.{names.GROUP}"
_MODELS = f"{crd.MODEL_DEPLOYMENT.plural}.{names.GROUP}"


class Output(StrEnum):
    """How the plan is printed."""

    TEXT = "text"
    JSON = "json"


def plan(
    target: Annotated[str, typer.Argument(metavar="rag/NAME", help="The RAGIndex.")],
    file: Annotated[
        str,
        typer.Option("--filename", "-f", help="YAML or JSON with the changed RAGIndex; - is standard input."),
    ],
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json")] = Output.TEXT,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code", help="Exit status 2 where something would change, 0 where nothing would."
        ),
    ] = False,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Say what applying a changed RAGIndex would do: nothing, read sources, or build the index anew, and how much work it is.

    Nothing is changed. A ModelDeployment in the same file is taken for the embedder as it will be. The exit status is 1 where
    the file can't be used.
    """
    name, found = syncing.named(target), documents.read(file)
    document = _chosen(found, name, namespace, file)
    findings = validate.check(
        [each for each in found if each.kind in (crd.RAG_INDEX.name, crd.MODEL_DEPLOYMENT.name)]
    )
    if findings:
        for each in findings:
            tell(each.text())
        raise typer.Exit(1)
    cluster = _Cluster(kept.cluster(state_dir, os.environ), namespace or _namespace(document))
    try:
        made = asyncio.run(_plan(cluster, document, found))
    except Refused as error:
        raise Unusable(str(error)) from error
    if output is Output.JSON:
        tell_json(asdict(made))
    else:
        for line in index_plan_text.lines(made):
            tell(line)
    raise typer.Exit(_CHANGES if exit_code and made.change.action != "None" else 0)


def _chosen(found: Sequence[Document], name: str, namespace: str | None, file: str) -> Document:
    """The RAGIndex that is meant; Unusable where there is none, or more than one."""
    indexes = [each for each in found if each.kind == crd.RAG_INDEX.name]
    ours = [each for each in indexes if each.name == name]
    if namespace is not None:
        ours = [each for each in ours if _namespace(each) in (None, namespace)]
    if len(ours) == 1:
        return ours[0]
    if ours:
        raise Unusable(
            f"{file} holds {name!r} {len(ours)} times; --namespace says which is meant, or keep one."
        )
    has = ", ".join(sorted({each.name for each in indexes})) or "none"
    raise Unusable(f"{file} holds no RAGIndex {name!r}; its RAGIndexes: {has}.")


def _namespace(document: Document) -> str | None:
    metadata = document.content.get("metadata")
    return metadata.get("namespace") if isinstance(metadata, Mapping) else None


@dataclass(frozen=True)
class _Cluster:
    """One namespace of a cluster; kubectl's own where none is named."""

    kubectl: Kubectl
    namespace: str | None

    async def get(self, resource: str, name: str) -> dict[str, Any] | None:
        """An object; None where there is none. Raises Refused."""
        place = ("--namespace", self.namespace) if self.namespace else ()
        text = await self.kubectl.run("get", resource, name, *place, "--ignore-not-found", "--output=json")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found


async def _plan(cluster: _Cluster, document: Document, found: Sequence[Document]) -> Plan:
    wanted = RAGIndexSpec.model_validate(admission.Checker(crd.RAG_INDEX).stored_spec(document.content))
    resource = await cluster.get(_INDEXES, document.name)
    embedder = await _embedder(cluster, wanted.embedding.model_ref.name, found)
    revision = wanted.revision(embedder.revision) if embedder.revision else None
    known = resource or {}
    status = RAGIndexStatus.model_validate(known.get("status") or {})
    present = _present(known, document.name) if resource else None
    change = index_change.between(present, wanted, status, revision)
    work = index_change.Work()
    if present is not None and change.action == "Rebuild":
        work = index_change.work(change, present, wanted, status)
    return Plan(
        index=f"rag/{document.name}",
        live=status.revision,
        revision=revision,
        change=change,
        work=work,
        suspended=wanted.suspend,
        waits=embedder.problem,
        measured=status.embedding.embedder if status.embedding else None,
        embedder=embedder.id,
    )


def _present(resource: Mapping[str, Any], name: str) -> RAGIndexSpec:
    try:
        return RAGIndexSpec.model_validate(resource.get("spec"))
    except ValidationError as error:
        raise Unusable(
            f"rag/{name} in the cluster can't be read by this version of lateen, so that there is nothing to compare"
            f" with: {error.errors()[0]['msg']}."
        ) from error


@dataclass(frozen=True)
class _Embedder:
    """The embedder as it will be."""

    id: str | None
    revision: str | None
    problem: str | None = None
    """What a build would wait for."""


async def _embedder(cluster: _Cluster, name: str, found: Sequence[Document]) -> _Embedder:
    """From the file where it is there for the same namespace, else from the cluster."""
    given = [
        each
        for each in found
        if (each.kind, each.name) == (crd.MODEL_DEPLOYMENT.name, name)
        and _namespace(each) in (None, cluster.namespace)
    ]
    if given:
        spec = admission.Checker(crd.MODEL_DEPLOYMENT).stored_spec(given[0].content)
        return _judged(name, None, spec, None)
    resource = await cluster.get(_MODELS, name)
    if resource is None:
        return _Embedder(
            None, None, f"ModelDeployment {name!r} does not exist [{Reason.REFERENCE_NOT_FOUND}]"
        )
    status = Status.model_validate(resource.get("status") or {})
    ready = next((each for each in status.conditions or () if each.type == "Ready"), None)
    problem = None
    if ready is None or ready.status != "True":
        why = f" ({ready.reason}: {ready.message})" if ready else ""
        problem = f"ModelDeployment {name!r} is not Ready{why} [{Reason.REFERENCE_NOT_READY}]"
    model_id = names.client_id(resource["metadata"]["namespace"], name)
    return _judged(name, model_id, resource.get("spec"), problem)


def _judged(name: str, model_id: str | None, spec: Any, problem: str | None) -> _Embedder:
    try:
        model = ModelDeploymentSpec.model_validate(spec)
    except ValidationError:
        return _Embedder(model_id, None, f"ModelDeployment {name!r} can't be read [{Reason.INVALID_SPEC}]")
    if model.task != "embed":
        problem = f"ModelDeployment {name!r} has task: {model.task}; use one with task: embed [{Reason.INCOMPATIBLE}]"
        return _Embedder(model_id, None, problem)
    return _Embedder(model_id, model.revision(), problem)
