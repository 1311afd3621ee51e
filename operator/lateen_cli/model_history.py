# SPDX-License-Identifier: Apache-2.0
"""What the revisions of a ModelDeployment mean: which serves, which can be gone back to, how. Pure; for `revisions.py`."""

from typing import Any

from pydantic import ValidationError
from rich.table import Table

from lateen_api import names
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_cli.kept import Kept, Revision
from lateen_cli.state import Unusable

PARTS = ("task", "source", "engine", "resources")
"""What a revision holds of a spec, and what a rollback writes; the rest of the spec stays."""


def wanted(found: Kept) -> str:
    """The revision that the spec describes; empty when this version can't read it."""
    try:
        return ModelDeploymentSpec.model_validate(found.resource["spec"]).revision()
    except ValidationError:
        return ""


def find(found: Kept, text: str) -> Revision:
    """The revision with that hash or number; Unusable when there is none."""
    named = next((each for each in found.revisions if text in (each.revision, str(each.number))), None)
    if named is None:
        raise Unusable(f"There is no revision {text}. Kept: {found.listed}.")
    return named


def choose(found: Kept, to: str | None) -> Revision:
    """The revision to go back to; Unusable says why there is none."""
    present = wanted(found)
    if to is None:
        earlier = (each for each in found.revisions if each.revision != present and not each.aborted)
        chosen = next(earlier, None)
        if chosen is None:
            raise Unusable(f"There is no earlier revision to go back to. Kept: {found.listed}.")
        return chosen
    named = find(found, to)
    if named.revision == present:
        raise Unusable(f"The spec describes revision {named.revision} already.")
    return named


def patch(revision: Revision) -> list[dict[str, Any]]:
    """A JSON patch that writes the revision's parts of the spec whole, so that nothing newer is left in them."""
    return [
        {"op": "add", "path": f"/spec/{part}", "value": value} for part, value in content(revision).items()
    ]


def content(revision: Revision) -> dict[str, Any]:
    """What the revision holds of the spec."""
    return {part: revision.data[part] for part in PARTS if part in revision.data}


def present(found: Kept) -> dict[str, Any]:
    """The same of the present spec."""
    return {part: found.resource["spec"][part] for part in PARTS if part in found.resource["spec"]}


def said(name: str, chosen: Revision) -> str:
    """What a rollback tells."""
    text = f"modeldeployment {name} goes back to revision {chosen.revision}"
    if not chosen.aborted:
        return text
    remedy = f"kubectl annotate controllerrevision {chosen.name} {names.ABORTED_ANNOTATION}-"
    return f"{text}\nIts canary was given up ({chosen.aborted}); to let it try again: {remedy}"


def table(found: Kept) -> Table:
    """What `lateen history` prints."""
    shown = Table("NUMBER", "REVISION", "CREATED", "STATE", "SOURCE", box=None, pad_edge=False)
    for each in found.revisions:
        source = str((each.data.get("source") or {}).get("uri", ""))
        shown.add_row(str(each.number), each.revision, each.created, state(found, each), source)
    return shown


def state(found: Kept, revision: Revision) -> str:
    """What became of a revision; empty for one that is only history."""
    status = found.resource.get("status") or {}
    weights = {share["revision"]: share["weight"] for share in status.get("traffic") or []}
    if revision.revision in weights:
        weight = weights[revision.revision]
        return "serves" if weight == 100 else f"takes {weight} %"
    if revision.aborted:
        return f"given up: {revision.aborted}"
    return "wanted" if revision.revision == wanted(found) else ""
