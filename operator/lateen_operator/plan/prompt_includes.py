# SPDX-License-Identifier: Apache-2.0
"""Who includes whom among PromptTemplates. Pure; called by `plan/prompt_checks.py` and `plan/world.py`."""

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import includes
from lateen_operator.plan import prompt_revisions
from lateen_operator.plan.prompt_revisions import Kept
from lateen_operator.seams import Key, Resource

Named = tuple[str, str]
"""Namespace and name of a PromptTemplate."""


class NotYetLive(Exception):
    """An included version is on its way; the message names it."""


def expanded(
    resource: Resource,
    spec: PromptTemplateSpec,
    templates: Iterable[Resource],
    history: Mapping[str, Sequence[Kept]],
) -> PromptTemplateSpec:
    """`spec` with everything that it includes in its place: versions that are or were live, of the same namespace.

    Raises:
        includes.IncludeError: Something is missing, goes in a circle or does not fit.
        NotYetLive: All is there, but a version was not live yet.

    """
    neighbours = {
        each.key.name: each
        for each in templates
        if each.key.namespace == resource.key.namespace and not each.deleting
    }
    waiting: list[str] = []

    def lookup(name: str, version: str) -> PromptTemplateSpec | None:
        other = neighbours.get(name)
        if other is None:
            return None
        kept = prompt_revisions.newest(history.get(other.uid, ()), version)
        if kept is not None:
            return kept.spec
        # So that a circle of new templates is told as what it is, and not as each waiting for the others.
        waiting.append(f"version {version} of PromptTemplate {name} is not live yet")
        return _present(other, version)

    whole = includes.expand(spec, lookup, resource.key.name)
    if waiting:
        raise NotYetLive(waiting[0])
    return whole


def _present(other: Resource, version: str) -> PromptTemplateSpec | None:
    try:
        spec = PromptTemplateSpec.model_validate(other.spec)
    except ValidationError:
        return None
    return spec if spec.version == version and not spec.suspend else None


def including(resource: Resource, templates: Iterable[Resource]) -> list[Key]:
    """Templates of the same namespace that include the version that `resource` has now: they may wait for it."""
    wanted = {"name": resource.key.name, "version": resource.spec.get("version")}
    return [
        each.key
        for each in templates
        if each.key.namespace == resource.key.namespace
        and any(message.get("include") == wanted for message in each.spec.get("messages") or ())
    ]


def pinned(
    templates: Iterable[Resource], history: Mapping[str, Sequence[Kept]]
) -> dict[Named, frozenset[str]]:
    """Labels of each template that a live revision of another one includes, also by way of a third.

    Other kinds that pin a version (an Assistant's `promptRef`) are to add theirs here.
    """
    kept = {(each.key.namespace, each.key.name): history.get(each.uid, ()) for each in templates}
    found: dict[Named, set[str]] = {}
    waiting = [(named, revisions[0].spec) for named, revisions in kept.items() if revisions]
    while waiting:
        (namespace, _), spec = waiting.pop()
        for reference in references(spec):
            target = (namespace, reference[0])
            labels = found.setdefault(target, set())
            if reference[1] not in labels:
                labels.add(reference[1])
                included = prompt_revisions.newest(kept.get(target, ()), reference[1])
                waiting += [(target, included.spec)] if included else []
    return {named: frozenset(labels) for named, labels in found.items()}


def references(spec: PromptTemplateSpec) -> list[tuple[str, str]]:
    """Name and version of every template that `spec` includes, in order."""
    items = (message.include for message in spec.messages)
    return [(include.name, include.version) for include in items if include is not None]
