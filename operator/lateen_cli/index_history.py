# SPDX-License-Identifier: Apache-2.0
"""What the revisions of a RAGIndex mean: which is live, which can be gone back to, how. Pure; for `revisions.py`."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from lateen_api.rag_index import REVISED, RAGIndexSpec
from lateen_cli.kept import Kept, Revision
from lateen_cli.state import Unusable


def find(found: Kept, text: str) -> Revision:
    """The revision with that hash or number; Unusable when there is none."""
    named = next((each for each in found.revisions if text in (each.revision, str(each.number))), None)
    if named is None:
        raise Unusable(f"There is no revision {text}. Kept: {found.listed}.")
    return named


def choose(found: Kept, to: str | None) -> Revision:
    """The revision to go back to; Unusable says why there is none."""
    now = present(found)
    if to is None:
        chosen = next((each for each in found.revisions if content(each) != now), None)
        if chosen is None:
            raise Unusable(_nowhere(found))
        return chosen
    named = find(found, to)
    if content(named) != now:
        return named
    if named.revision == _live(found):
        raise Unusable(f"The spec describes revision {named.revision} already.")
    raise Unusable(_differs_in_embedder(named))


def patch(revision: Revision) -> list[dict[str, Any]]:
    """A JSON patch that writes the revision's parts of the spec whole, so that nothing newer is left in them."""
    return [
        {"op": "add", "path": f"/spec/{part}", "value": value} for part, value in content(revision).items()
    ]


def content(revision: Revision) -> dict[str, Any]:
    """What the revision holds of the spec."""
    return {part: revision.data[part] for part in REVISED if part in revision.data}


def present(found: Kept) -> dict[str, Any]:
    """The same of the present spec, with all defaults; Unusable when this version can't read it."""
    try:
        spec = RAGIndexSpec.model_validate(found.resource["spec"]).dump()
    except ValidationError as error:
        raise Unusable("The present spec can't be read by this version of lateen.") from error
    return {part: spec[part] for part in REVISED}


def said(found: Kept, name: str, chosen: Revision) -> str:
    """What a rollback tells."""
    text = f"ragindex {name} goes back to revision {chosen.revision}"
    live = next((each for each in found.revisions if each.revision == _live(found)), None)
    if chosen.revision not in _rows(found):
        text += "\nIts collection is gone: it is built anew beside the live one."
    elif live is not None and _embedder(live) != _embedder(chosen):
        text += f"\n{_embedded(chosen)}\nUntil that serves again, its collection can't be used."
    if found.resource["spec"].get("suspend"):
        text += "\nspec.suspend is true: nothing moves until that is false."
    return text


def table(found: Kept) -> Table:
    """What `lateen history` prints."""
    columns = ("NUMBER", "REVISION", "CREATED", "STATE", "DOCUMENTS", "EMBEDDER")
    shown = Table(*columns, box=None, pad_edge=False)
    rows = _rows(found)
    for each in found.revisions:
        documents = str(rows.get(each.revision, {}).get("documents", ""))
        model = ((each.data.get("embedding") or {}).get("modelRef") or {}).get("name", "")
        embedder = f"{model}@{_embedder(each)}"
        shown.add_row(str(each.number), each.revision, each.created, state(found, each), documents, embedder)
    return shown


def state(found: Kept, revision: Revision) -> str:
    """What became of a revision: queries use it, its collection is kept, or it is about to be forgotten."""
    if revision.revision == _live(found):
        return "live"
    return "kept" if revision.revision in _rows(found) else "gone"


def _live(found: Kept) -> str:
    return str((found.resource.get("status") or {}).get("revision") or "")


def _rows(found: Kept) -> Mapping[str, Mapping[str, Any]]:
    rows = (found.resource.get("status") or {}).get("revisions") or []
    return {row["revision"]: row for row in rows}


def _embedder(revision: Revision) -> str:
    return str((revision.data.get("embedder") or {}).get("revision", ""))


def _nowhere(found: Kept) -> str:
    other = next((each for each in found.revisions if each.revision != _live(found)), None)
    if other is not None:
        return _differs_in_embedder(other)
    return (
        f"There is no earlier revision to go back to. Kept: {found.listed}."
        " spec.revisionHistoryLimit says how many are kept."
    )


def _differs_in_embedder(revision: Revision) -> str:
    return f"The spec describes revision {revision.revision} already. {_embedded(revision)}"


def _embedded(revision: Revision) -> str:
    model = ((revision.data.get("embedding") or {}).get("modelRef") or {}).get("name", "")
    wanted = _embedder(revision)
    return (
        f"Its vectors are those of revision {wanted} of modeldeployment {model}; where that is not the one that serves:"
        f" lateen rollback md/{model} --to {wanted}"
    )
