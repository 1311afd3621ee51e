# SPDX-License-Identifier: Apache-2.0
"""Who includes whom among PromptTemplates. Pure; called by `plan/prompt_checks.py` and `plan/world.py`."""

from collections.abc import Iterable, Mapping, Sequence

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_operator.plan import prompt_revisions
from lateen_operator.plan.prompt_revisions import Kept
from lateen_operator.seams import Resource

Named = tuple[str, str]
"""Namespace and name of a PromptTemplate."""


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
