# SPDX-License-Identifier: Apache-2.0
"""Whether a prompt fits the models and indexes it is written for. Pure; for `prompt_checks.py` and `prompts.py`.

Only declared numbers count: there is no tokenizer here. Passages are counted in tokens of the index's embedder.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lateen_api import rendering
from lateen_api.conditions import ConditionType, Reason
from lateen_api.prompt_template import PromptTemplateSpec, Targets
from lateen_api.rag_index import RAGIndexSpec
from lateen_operator.plan import prompt_budget
from lateen_operator.plan.world import World
from lateen_operator.seams import Resource
from lateen_operator.status import Verdict

_MODELS, _INDEXES = "spec.targets.modelRefs: ModelDeployment", "spec.targets.indexRefs: RAGIndex"

_SEARCHED = "the variable's retrieval.indexRefs: RAGIndex"

_LESS = "the index's retrieval.limit, retrieval.neighbours, retrieval.maxContextTokens or chunking.size"


@dataclass(frozen=True)
class _Passages:
    """What an index, or several together, hand to a prompt at most; the prompt's own limit counts before an index's."""

    index: str
    number: int = 0
    size: int = 0
    """Tokens of one, its neighbours included."""
    bound: int | None = None
    """Most tokens of all of them; the best passage is handed over in any case."""

    @property
    def tokens(self) -> int:
        every = self.number * self.size
        return every if self.bound is None else min(every, max(self.bound, self.size))

    def __str__(self) -> str:
        bounded = f", at most {self.tokens}" if self.tokens < self.number * self.size else ""
        return f"RAGIndex {self.index} ({self.number} passages of {self.size} tokens{bounded})"


def named(spec: PromptTemplateSpec, targets: Targets | None) -> Targets | None:
    """`targets` with the indexes that the prompt itself searches; None where there is neither."""
    search = rendering.search(spec)
    if search is None:
        return targets
    known = targets or Targets()
    refs = {reference.name: reference for reference in (*known.index_refs, *search.index_refs)}
    return known.model_copy(update={"index_refs": list(refs.values())})


def misfit(namespace: str, spec: PromptTemplateSpec, targets: Targets | None, world: World) -> Verdict | None:
    """The first thing for which a prompt can't be used with all of its targets; None where it can.

    Args:
        namespace: Where prompt and targets are.
        spec: The prompt, with its includes in place.
        targets: What it is written for; None: nothing is said.
        world: Where models and indexes are looked up.

    """
    return next(_misfits(namespace, spec, targets, world), None) if targets is not None else None


def conditions(
    namespace: str, live: PromptTemplateSpec, targets: Targets, world: World
) -> Mapping[ConditionType, Verdict]:
    """`Compatible=False` where a live prompt does not fit its targets (any more), else nothing."""
    found = misfit(namespace, live, targets, world)
    if found is None or found.reason is Reason.REFERENCE_NOT_READY:
        return {}
    return {ConditionType.COMPATIBLE: found}


def _misfits(namespace: str, spec: PromptTemplateSpec, targets: Targets, world: World) -> Iterator[Verdict]:
    models = _found(namespace, [each.name for each in targets.model_refs], world.models)
    indexes = _found(namespace, [each.name for each in targets.index_refs], world.indexes)
    yield from (_missing(f"{_MODELS} {name!r}") for name, found in models.items() if found is None)
    yield from (
        _missing(f"{_where(spec, name)} {name!r}") for name, found in indexes.items() if found is None
    )
    yield from (problem for name, found in models.items() if (problem := _of_task(name, found)))
    largest = max(_handed(spec, indexes), key=lambda each: each.tokens, default=None)
    yield from _beyond_bound(spec, largest)
    contexts = {name: _context(found) for name, found in models.items() if found is not None}
    yield from _beyond_models(spec, largest, contexts)
    yield from (_unknown(name) for name, context in contexts.items() if context is None)
    yield from (
        Verdict("False", Reason.REFERENCE_NOT_READY, f"{_where(spec, name)} {name!r} can't be read yet.")
        for name, found in indexes.items()
        if found is not None and _passages(spec, name, found) is None
    )


def _found(namespace: str, names: Sequence[str], known: Iterable[Resource]) -> dict[str, Resource | None]:
    here = {each.key.name: each for each in known if each.key.namespace == namespace and not each.deleting}
    return {name: here.get(name) for name in names}


def _where(spec: PromptTemplateSpec, index: str) -> str:
    return _SEARCHED if index in _searched(spec) else _INDEXES


def _searched(spec: PromptTemplateSpec) -> frozenset[str]:
    search = rendering.search(spec)
    return frozenset(each.name for each in search.index_refs) if search is not None else frozenset()


def _missing(where: str) -> Verdict:
    return Verdict("False", Reason.REFERENCE_NOT_FOUND, f"{where} does not exist in this namespace.")


def _of_task(name: str, model: Resource | None) -> Verdict | None:
    task = model.spec.get("task") if model is not None else "generate"
    if task == "generate":
        return None
    message = f"{_MODELS} {name!r} has task: {task}; a prompt is for one with task: generate."
    return Verdict("False", Reason.INCOMPATIBLE, message)


def _passages(spec: PromptTemplateSpec, name: str, index: Resource) -> _Passages | None:
    """None for a spec that this version can't read; its own status says so."""
    try:
        found = RAGIndexSpec.model_validate(index.spec)
    except ValidationError:
        return None
    search, retrieval = rendering.search(spec), found.retrieval
    limit = search.limit if search is not None and search.limit else retrieval.limit
    size = found.chunking.size * (1 + 2 * retrieval.neighbours)
    return _Passages(name, limit, size, retrieval.max_context_tokens)


def _handed(spec: PromptTemplateSpec, indexes: Mapping[str, Resource | None]) -> list[_Passages]:
    """What the prompt may be handed: by any one of its targets, or by all that it searches side by side."""
    known = [_passages(spec, name, found) for name, found in indexes.items() if found is not None]
    handed = [each for each in known if each is not None]
    together = [each for each in handed if each.index in _searched(spec)]
    return [*handed, _merged(together)] if len(together) > 1 else handed


def _merged(parts: Sequence[_Passages]) -> _Passages:
    """As the gateway merges them: indexes share the largest limit, and the largest bound where each has one."""
    number = left = max(each.number for each in parts)
    every = 0
    for each in sorted(parts, key=lambda part: part.size, reverse=True):
        taken = min(left, each.number)
        left, every = left - taken, every + taken * each.size
    bounds = [each.bound for each in parts if each.bound is not None]
    bound = min(every, max(bounds)) if len(bounds) == len(parts) else every
    return _Passages(
        " and ".join(each.index for each in parts), number, max(each.size for each in parts), bound
    )


def _context(model: Resource) -> int | None:
    """Tokens the model reads: as its replicas say, else as its spec says."""
    facts: Mapping[str, Any] = model.status.get("facts") or {}
    engine: Mapping[str, Any] = model.spec.get("engine") or {}
    said = facts.get("contextTokens") or engine.get("maxModelLen")
    return said if isinstance(said, int) else None


def _beyond_bound(spec: PromptTemplateSpec, handed: _Passages | None) -> Iterator[Verdict]:
    bound = spec.context_window.max_prompt_tokens if spec.context_window else None
    if handed is None or bound is None or prompt_budget.staying(spec, handed.tokens) < bound:
        return
    message = (
        f"passages of {handed} = {handed.tokens} leave no room in spec.contextWindow.maxPromptTokens: {bound}; raise"
        f" it, lower {_LESS}, or name the passages' variable in"
        " spec.contextWindow.priority."
    )
    yield Verdict("False", Reason.INCOMPATIBLE, message)


def _beyond_models(
    spec: PromptTemplateSpec, handed: _Passages | None, contexts: Mapping[str, int | None]
) -> Iterator[Verdict]:
    need = prompt_budget.budget(spec, handed.tokens if handed else 0)
    source = f" with {handed}" if need.passages else ""
    less = f"{_LESS}, " if need.passages else ""
    for name, context in contexts.items():
        if context is not None and context < need.total:
            message = (
                f"the prompt{source} needs {need}, but ModelDeployment {name} reads {context}; lower {less}"
                "spec.contextWindow or spec.defaults.maxOutputTokens, or name a model with a longer context in"
                " spec.targets.modelRefs."
            )
            yield Verdict("False", Reason.INCOMPATIBLE, message)


def _unknown(name: str) -> Verdict:
    message = (
        f"{_MODELS} {name!r} has not said yet how many tokens it reads: it does so once it is Ready, or set its"
        " spec.engine.maxModelLen."
    )
    return Verdict("False", Reason.REFERENCE_NOT_READY, message)
