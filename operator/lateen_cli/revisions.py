# SPDX-License-Identifier: Apache-2.0
"""`lateen history` and `lateen rollback`: what `kubectl rollout history` and `undo` are for Deployments.

Both read ControllerRevisions; a rollback writes the spec through kubectl, as a user would. Everything but
`history`, `rollback` and `_load` is a pure function.
"""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from lateen_api import names
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_cli import tools
from lateen_cli.kubectl import FIELD_MANAGER, Kubectl, Refused
from lateen_cli.state import StateDir, Unusable

KIND = "modeldeployments.lateen.dev"
ALIASES = ("md", "modeldeployment", "modeldeployments", KIND)
PARTS = ("task", "source", "engine", "resources")
"""What a revision holds of a spec, and what a rollback writes; the rest of the spec stays."""

Target = Annotated[str, typer.Argument(metavar="md/NAME", help="The ModelDeployment.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Its namespace. Default: kubectl's own.")
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="LATEEN_STATE_DIR",
        help="Of the stack. Default: the cluster of KUBECONFIG, else the default stack.",
    ),
]


@dataclass(frozen=True)
class Revision:
    """One kept revision of a model."""

    name: str
    """Name of its ControllerRevision."""
    revision: str
    number: int
    created: str
    aborted: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A model and its revisions, newest first."""

    model: Mapping[str, Any]
    revisions: Sequence[Revision]

    @property
    def wanted(self) -> str:
        """The revision that the spec describes; empty when this version can't read it."""
        try:
            return ModelDeploymentSpec.model_validate(self.model["spec"]).revision()
        except ValidationError:
            return ""

    def find(self, text: str) -> Revision | None:
        """The revision with that hash or number."""
        return next((each for each in self.revisions if text in (each.revision, str(each.number))), None)


def history(target: Target, namespace: Namespace = None, state_dir: State = None) -> None:
    """Show the revisions of a model, newest first: which serves, which was given up, and why."""
    Console().print(table(asyncio.run(_load(cluster(state_dir, os.environ), name_of(target), namespace))))


def rollback(
    target: Target,
    to: Annotated[
        str | None, typer.Option("--to", metavar="REVISION", help="Default: the one before the present one.")
    ] = None,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Write source, engine and resources of an earlier revision into the spec; scaling and limits stay as they are."""
    kubectl, name = cluster(state_dir, os.environ), name_of(target)
    print(asyncio.run(_roll_back(kubectl, name, namespace, to)))


async def _roll_back(kubectl: Kubectl, name: str, namespace: str | None, to: str | None) -> str:
    kept = await _load(kubectl, name, namespace)
    chosen = choose(kept, to)
    place = ("--namespace", kept.model["metadata"]["namespace"])
    change = ("--type=json", f"--field-manager={FIELD_MANAGER}", "--patch", json.dumps(patch(chosen)))
    try:
        await kubectl.run("patch", KIND, name, *place, *change)
    except Refused as error:
        raise Unusable(str(error)) from error
    said = f"modeldeployment {name} goes back to revision {chosen.revision}"
    if not chosen.aborted:
        return said
    remedy = f"kubectl annotate controllerrevision {chosen.name} {names.ABORTED_ANNOTATION}-"
    return f"{said}\nIts canary was given up ({chosen.aborted}); to let it try again: {remedy}"


async def _load(kubectl: Kubectl, name: str, namespace: str | None) -> Kept:
    place = ("--namespace", namespace) if namespace else ()
    try:
        model = json.loads(await kubectl.run("get", KIND, name, *place, "--output=json"))
        metadata = model["metadata"]
        found = await kubectl.run(
            "get",
            "controllerrevisions.apps",
            f"--namespace={metadata['namespace']}",
            f"--selector={names.OWNER_LABEL}={metadata['uid']}",
            "--output=json",
        )
    except Refused as error:
        raise Unusable(str(error)) from error
    return kept(model, json.loads(found)["items"])


def cluster(state_dir: Path | None, environment: Mapping[str, str]) -> Kubectl:
    """Access to the stack that is named, else for the user's own cluster, else for the default stack."""
    program = tools.find("kubectl", environment)
    if program is None:
        raise Unusable("kubectl is missing: install it, or run: python3 hack/tools")
    state = StateDir.at(state_dir) if state_dir else StateDir.at_default()
    if state_dir is not None and not state.kubeconfig.is_file():
        raise Unusable(f"There is no stack in {state.root}. Start one: lateen up --state-dir {state.root}")
    if state_dir is None and ("KUBECONFIG" in environment or not state.kubeconfig.is_file()):
        return Kubectl(program)
    return Kubectl(program, state.kubeconfig, state.cache("lateen"))


def name_of(target: str) -> str:
    """The name in `md/NAME`; Unusable for anything else."""
    kind, slash, name = target.partition("/")
    if not slash or kind.lower() not in ALIASES or not name or "/" in name:
        raise Unusable(f"{target!r} is not md/NAME: only ModelDeployments have a history here.")
    return name


def kept(model: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Kept:
    """A model and its revisions, out of what kubectl prints."""
    revisions = [
        Revision(
            name=item["metadata"]["name"],
            revision=item["metadata"]["labels"].get(names.REVISION_LABEL, ""),
            number=item.get("revision", 0),
            created=item["metadata"].get("creationTimestamp", ""),
            aborted=(item["metadata"].get("annotations") or {}).get(names.ABORTED_ANNOTATION, ""),
            data=item.get("data") or {},
        )
        for item in items
    ]
    return Kept(model, sorted(revisions, key=lambda each: -each.number))


def choose(found: Kept, to: str | None) -> Revision:
    """The revision to go back to; Unusable says why there is none."""
    known = ", ".join(each.revision for each in found.revisions) or "none"
    if to is None:
        earlier = (each for each in found.revisions if each.revision != found.wanted and not each.aborted)
        chosen = next(earlier, None)
        if chosen is None:
            raise Unusable(f"There is no earlier revision to go back to. Kept: {known}.")
        return chosen
    named = found.find(to)
    if named is None:
        raise Unusable(f"There is no revision {to}. Kept: {known}.")
    if named.revision == found.wanted:
        raise Unusable(f"The spec describes revision {named.revision} already.")
    return named


def patch(revision: Revision) -> list[dict[str, Any]]:
    """A JSON patch that writes the revision's parts of the spec whole, so that nothing newer is left in them."""
    return [
        {"op": "add", "path": f"/spec/{part}", "value": revision.data[part]}
        for part in PARTS
        if part in revision.data
    ]


def table(found: Kept) -> Table:
    """What `lateen history` prints."""
    shown = Table("NUMBER", "REVISION", "CREATED", "STATE", "SOURCE", box=None, pad_edge=False)
    for each in found.revisions:
        source = str((each.data.get("source") or {}).get("uri", ""))
        shown.add_row(str(each.number), each.revision, each.created, state(found, each), source)
    return shown


def state(found: Kept, revision: Revision) -> str:
    """What became of a revision; empty for one that is only history."""
    status = found.model.get("status") or {}
    weights = {share["revision"]: share["weight"] for share in status.get("traffic") or []}
    if revision.revision in weights:
        weight = weights[revision.revision]
        return "serves" if weight == 100 else f"takes {weight} %"
    if revision.aborted:
        return f"given up: {revision.aborted}"
    return "wanted" if revision.revision == found.wanted else ""
