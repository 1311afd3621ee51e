# SPDX-License-Identifier: Apache-2.0
"""The history of a model: which ControllerRevisions are kept, and what a revision consists of. Pure.

Called by `plan/models.py`; `reconcile/models.py` writes, `lateen history` and `lateen rollback` read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_operator.seams import StoredRevision

PARTS = ("task", "source", "engine", "resources")
"""What a revision keeps of the spec, as the user wrote it: all that defines it, and the source's Secret."""


@dataclass(frozen=True)
class HistoryPlan:
    """What to do about the ControllerRevisions of one model."""

    store: Mapping[str, Any] | None = None
    """Content of a revision to keep; None: it is there already."""
    number: int = 0
    """The number it gets."""
    renumber: str = ""
    """Name of the kept revision that is wanted again and becomes the newest; empty: none."""
    forget: tuple[str, ...] = ()
    """Names of those beyond the history."""


def plan(spec: ModelDeploymentSpec, stored: Sequence[StoredRevision], in_use: frozenset[str]) -> HistoryPlan:
    """Keep the wanted revision as the newest, those `in_use`, and as many others as the spec says.

    Args:
        spec: The spec.
        stored: Kept revisions, newest first.
        in_use: Revisions that serve.

    """
    wanted = spec.revision()
    known = find(stored, wanted)
    newest = max((item.number for item in stored), default=0)
    others = [item for item in stored if item.revision != wanted]
    spare = max(0, spec.revision_history_limit - 1)
    forget = tuple(item.name for item in others[spare:] if item.revision not in in_use)
    if known is None:
        return HistoryPlan(store=content(spec), number=newest + 1, forget=forget)
    if known.number < newest:
        return HistoryPlan(number=newest + 1, renumber=known.name, forget=forget)
    return HistoryPlan(forget=forget)


def content(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """What is kept of `spec`."""
    whole = spec.dump()
    return {name: whole[name] for name in PARTS}


def find(stored: Sequence[StoredRevision], revision: str) -> StoredRevision | None:
    """The kept revision of that name."""
    return next((item for item in stored if item.revision == revision), None)


def last_good(spec: ModelDeploymentSpec, stored: Sequence[StoredRevision]) -> ModelDeploymentSpec | None:
    """`spec` with the content of the newest kept revision that was not given up; None when there is none."""
    for item in stored:
        if item.aborted or item.revision == spec.revision():
            continue
        try:
            return ModelDeploymentSpec.model_validate({**spec.dump(), **item.data})
        except ValidationError:  # kept by an operator of another version
            continue
    return None
