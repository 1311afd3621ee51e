# SPDX-License-Identifier: Apache-2.0
"""What is read out of stored documents, each read once however many passes look at it. Held by `reconcile/convergence.py`.

A memo and nothing more: what it answers follows from its arguments alone. It holds what the last pass listed.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from lateen_api import packing
from lateen_api.catalog import Catalog
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_operator.plan import prompt_revisions
from lateen_operator.plan.prompt_revisions import Kept
from lateen_operator.seams import Key, Resource, StoredRevision

REMEMBERED_CATALOGS = 16
"""Catalogs that the gateway may still serve while newer ones are on their way to it. They share what did not change."""


class ReadSpec(NamedTuple):
    """The present spec of a PromptTemplate."""

    spec: PromptTemplateSpec
    revision: str
    """Its hash."""


class Reader:
    """Remembers what was read. For one event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[StoredRevision, Kept | None]] = {}
        self._specs: dict[Key, tuple[Mapping[str, Any], ReadSpec]] = {}
        self._catalog: tuple[str, Catalog | None] = ("", None)
        self._applied: dict[str, Catalog] = {}

    def limit(self, prompts: Iterable[Resource], revisions: Iterable[StoredRevision]) -> None:
        """Forget all that is neither of these."""
        keys = {resource.key for resource in prompts}
        places = {(item.namespace, item.name) for item in revisions}
        self._specs = {key: found for key, found in self._specs.items() if key in keys}
        self._kept = {place: found for place, found in self._kept.items() if place in places}

    def kept(self, stored: StoredRevision) -> Kept | None:
        """What a ControllerRevision holds; None when another version of the operator wrote what this one can't read."""
        place = (stored.namespace, stored.name)
        known, kept = self._kept.get(place, (None, None))
        if known is stored:
            return kept
        if known is not None and known.data == stored.data:  # a note on it, another number: the content stays
            kept = kept and kept.noted(stored)
        else:
            kept = prompt_revisions.read(stored)
        self._kept[place] = (stored, kept)
        return kept

    def prompt(self, resource: Resource) -> ReadSpec:
        """The present spec of a PromptTemplate; raises pydantic.ValidationError."""
        known, found = self._specs.get(resource.key, (None, None))
        if found is None or (known is not resource.spec and known != resource.spec):
            spec = PromptTemplateSpec.model_validate(resource.spec)
            found = ReadSpec(spec, spec.revision())
        self._specs[resource.key] = (resource.spec, found)
        return found

    def catalog(self, text: str) -> Catalog | None:
        """A packed catalog out of a Serve config; None for one of another version of the operator: ours replaces it."""
        known, found = self._catalog
        if known != text:
            try:
                found = Catalog.parse(packing.unpack(text))
            except ValueError:  # pydantic's too
                found = None
            self._catalog = (text, found)
            if found is not None:
                self._remember(found)
        return found

    def applied(self, text: str, catalog: Catalog) -> None:
        """Know the catalog that was just given to Ray, packed so, before it is read back."""
        self._catalog = (text, catalog)
        self._remember(catalog)

    def _remember(self, catalog: Catalog) -> None:
        self._applied.pop(catalog.revision, None)
        self._applied[catalog.revision] = catalog
        while len(self._applied) > REMEMBERED_CATALOGS:
            del self._applied[next(iter(self._applied))]

    def oldest(self, revisions: Collection[str]) -> Catalog | None:
        """Of the catalogs of these revisions the one that was given to Ray first; None where one of them is not known."""
        if any(each not in self._applied for each in revisions):
            return None
        return next((found for each, found in self._applied.items() if each in revisions), None)

    def after(self, revision: str) -> tuple[Catalog, ...]:
        """The catalogs given to Ray after the one of that revision, the oldest first; none if it is not known."""
        known = list(self._applied)
        later = known[known.index(revision) + 1 :] if revision in known else []
        return tuple(self._applied[each] for each in later)
