# SPDX-License-Identifier: Apache-2.0
"""What the revisions of a PromptTemplate mean: which is live, which can be gone back to, how. Pure; for `revisions.py`."""

import contextlib
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from lateen_api.prompt_template import UPKEEP, PromptTemplateSpec
from lateen_cli.kept import Kept, Revision
from lateen_cli.state import Unusable


def wanted(found: Kept) -> str:
    """The revision that the spec describes; empty when this version can't read it."""
    try:
        return PromptTemplateSpec.model_validate(found.resource["spec"]).revision()
    except ValidationError:
        return ""


def version(revision: Revision) -> str:
    """Its author's label."""
    return str((revision.data.get("spec") or {}).get("version", ""))


def find(found: Kept, text: str) -> Revision:
    """The newest revision with that version, else the one with that hash; Unusable when there is none."""
    labelled = [each for each in found.revisions if version(each) == text]
    named = [*labelled, *(each for each in found.revisions if each.revision == text)]
    if not named:
        known = ", ".join(dict.fromkeys(version(each) for each in found.revisions)) or "none"
        raise Unusable(f"There is no version {text}. Kept: {known}.")
    return named[0]


def choose(found: Kept, to: str | None) -> Revision:
    """The revision to go back to; Unusable says why there is none."""
    now = wanted(found)
    if to is None:
        chosen = next((each for each in found.revisions if each.revision != now), None)
        if chosen is None:
            raise Unusable("There is no earlier version to go back to.")
        return chosen
    named = find(found, to)
    if named.revision == now:
        raise Unusable(f"The spec describes version {version(named)} already.")
    return named


def patch(found: Kept, revision: Revision) -> list[dict[str, Any]]:
    """A JSON patch that makes the revision the whole spec but for the fields that say how revisions are kept."""
    kept = {name: value for name, value in found.resource["spec"].items() if name in UPKEEP}
    return [{"op": "add", "path": "/spec", "value": content(revision) | kept}]


def content(revision: Revision) -> dict[str, Any]:
    """The prompt as its author wrote it, in the order of the fields, without those that say how revisions are kept."""
    spec = revision.data.get("spec") or {}
    # The API server keeps no order. One of another version of the operator can be shown and written as it is.
    with contextlib.suppress(ValidationError):
        spec = PromptTemplateSpec.model_validate(spec).dump()
    return {name: value for name, value in spec.items() if name not in UPKEEP}


def present(found: Kept) -> dict[str, Any]:
    """The same of the present spec; Unusable when this version can't read it."""
    try:
        spec = PromptTemplateSpec.model_validate(found.resource["spec"]).dump()
    except ValidationError as error:
        raise Unusable("The present spec can't be read by this version of lateen.") from error
    return {name: value for name, value in spec.items() if name not in UPKEEP}


def said(found: Kept, name: str, chosen: Revision) -> str:
    """What a rollback tells."""
    text = f"prompttemplate {name} goes back to version {version(chosen)} (revision {chosen.revision})"
    if not found.resource["spec"].get("suspend"):
        return text
    return f"{text}\nspec.suspend is true: it becomes live once that is false."


def table(found: Kept) -> Table:
    """What `lateen history` prints."""
    shown = Table("VERSION", "REVISION", "CREATED", "STATE", "PREVIOUS", box=None, pad_edge=False)
    for each in found.revisions:
        previous = str(each.data.get("previous") or "")
        shown.add_row(version(each), each.revision, each.created, state(found, each), previous)
    return shown


def state(found: Kept, revision: Revision) -> str:
    """What became of a revision: clients get it, it is on its way to them, or it can only be called by its version."""
    if revision.revision == (found.resource.get("status") or {}).get("revision"):
        return "live"
    return "wanted" if revision.revision == wanted(found) else "superseded"
