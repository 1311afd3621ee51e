# SPDX-License-Identifier: Apache-2.0
"""The kept revisions of a prompt: what each holds, and which go. Pure; called by `plan/prompts.py`.

A revision is kept before it becomes live, so its label is taken from the moment anybody can have been answered by
it. What it includes is written into it then: later changes of other templates don't reach it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from lateen_api import catalog, names
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.quantities import seconds
from lateen_operator.seams import Resource, StoredRevision

MAX_KEPT = 100
"""Revisions kept of one prompt for having been used lately, all others included; pinned ones stay beyond it."""

MAX_BYTES = 1_048_576
"""Bytes of one revision as JSON. etcd takes 1.5 MB, of which the API server's own entries and escapes are a part."""

NOTE_SECONDS = 3600
"""A use is noted again at most this often, so that busy prompts cause few writes."""


@dataclass(frozen=True)
class Kept:
    """One kept revision."""

    stored: StoredRevision
    spec: PromptTemplateSpec
    """As its author wrote it."""
    expanded: PromptTemplateSpec
    """The same with everything that it includes in its place."""
    previous: str
    """The revision that was live when this one was made; empty for the first."""

    @property
    def revision(self) -> str:
        """Its hash."""
        return self.stored.revision

    @cached_property
    def entry(self) -> catalog.PromptRevision:
        """What the gateway is told of it."""
        return catalog.PromptRevision(revision=self.revision, created=self.stored.created, spec=self.expanded)

    def noted(self, stored: StoredRevision) -> "Kept":
        """The same content, with what was noted on it since."""
        same = replace(self, stored=stored)
        if same.stored.created == self.stored.created:
            vars(same)["entry"] = self.entry  # for the gateway it has not changed
        return same


@dataclass(frozen=True)
class Use:
    """A use to be noted."""

    name: str
    """Name of the ControllerRevision."""
    when: int
    """Unix time, seconds."""


def read(stored: StoredRevision) -> Kept | None:
    """What a ControllerRevision holds; None when another version of the operator wrote what this one can't read."""
    try:
        spec = PromptTemplateSpec.model_validate(stored.data.get("spec"))
        expanded = stored.data.get("expanded")
        whole = spec if expanded is None else PromptTemplateSpec.model_validate(expanded)
    except ValidationError:
        return None
    return Kept(stored, spec, whole, str(stored.data.get("previous") or ""))


def content(spec: PromptTemplateSpec, expanded: PromptTemplateSpec, previous: str) -> dict[str, Any]:
    """What a ControllerRevision holds of a new revision; `read` is the other direction."""
    written: dict[str, Any] = {"spec": spec.dump()}
    if expanded != spec:
        written["expanded"] = expanded.dump()
    return written | ({"previous": previous} if previous else {})


def excess(content: Mapping[str, Any]) -> str:
    """Why a revision with this content can't be kept, with the sizes; empty where it can."""
    parts = {name: len(json.dumps(value, ensure_ascii=False).encode()) for name, value in content.items()}
    total = sum(parts.values())
    if total <= MAX_BYTES:
        return ""
    whole = f" and {parts['expanded']} with all includes in their place" if "expanded" in parts else ""
    return (
        f"a revision would take {total} bytes, of which {parts['spec']} as it is written{whole}; at most"
        f" {MAX_BYTES} can be kept: shorten the messages and examples, or split the template"
    )


def find(kept: Sequence[Kept], revision: str) -> Kept | None:
    """The kept revision of that hash."""
    return next((item for item in kept if item.revision == revision), None)


def newest(kept: Sequence[Kept], version: str) -> Kept | None:
    """The newest kept revision with that label."""
    return next((item for item in kept if item.spec.version == version), None)


def surplus(
    live: Kept,
    spec: PromptTemplateSpec,
    kept: Sequence[Kept],
    pinned: frozenset[str],
    reported: Mapping[str, int],
    now: float,
) -> list[Kept]:
    """Those that are to go: beyond the history, not pinned, and not used lately.

    Args:
        live: Stays, whatever else.
        spec: Says how many and for how long.
        kept: All, newest first.
        pinned: Labels that other resources refer to.
        reported: Unix time of the last use by revision, as the gateway knows it.
        now: Unix time.

    """
    others = [item for item in kept if item.revision != live.revision]
    old = [
        item for item in others[max(0, spec.revision_history_limit - 1) :] if item.spec.version not in pinned
    ]
    since = now - _retention(spec) - _granularity(spec)
    used = [item for item in old if _used(item, reported) >= since and _retention(spec)]
    room = max(0, MAX_KEPT - (len(kept) - len(old)))
    staying = {item.revision for item in used[:room]}
    return [item for item in old if item.revision not in staying]


def uses(spec: PromptTemplateSpec, kept: Sequence[Kept], reported: Mapping[str, int]) -> tuple[Use, ...]:
    """The uses that are worth a note: without one, a restart of the gateway would lose them."""
    if not _retention(spec):
        return ()
    found = ((item, reported.get(item.revision, 0)) for item in kept)
    step = _granularity(spec)
    return tuple(Use(item.stored.name, when) for item, when in found if when >= item.stored.used + step)


def _used(item: Kept, reported: Mapping[str, int]) -> int:
    return max(item.stored.used, reported.get(item.revision, 0))


def _retention(spec: PromptTemplateSpec) -> int:
    return seconds(spec.retention) if spec.retention else 0


def _granularity(spec: PromptTemplateSpec) -> int:
    return max(1, min(NOTE_SECONDS, _retention(spec) // 4))


def prompt_id(resource: Resource) -> str:
    """What clients call it."""
    return names.client_id(resource.key.namespace, resource.key.name)
