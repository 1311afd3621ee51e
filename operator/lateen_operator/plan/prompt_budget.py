# SPDX-License-Identifier: Apache-2.0
"""Whether a model can read a prompt of the length that its context window promises. Pure; called by `plan/prompts.py`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lateen_api.conditions import ConditionType, Reason
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_operator.seams import Resource
from lateen_operator.status import Verdict, ready_condition

_MAX_NAMED = 8


@dataclass(frozen=True)
class Budget:
    """Tokens that a prompt and its answer take together."""

    prompt: int
    """What the prompt may have; without a bound of its own, the least that it has."""
    passages: int
    """Of that, retrieved passages; 0 where the prompt's own bound holds for them too."""
    output: int
    """What stays free for the answer."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.prompt + self.output

    def __str__(self) -> str:
        of_passages = f" ({self.passages} of them passages)" if self.passages else ""
        return f"{self.prompt} tokens of prompt{of_passages} + {self.output} of answer = {self.total}"


def budget(spec: PromptTemplateSpec, passages: int = 0) -> Budget | None:
    """What `spec` (with its includes in place) needs; None where it promises nothing.

    Args:
        spec: The prompt; without a context window it is as long as it is, and a request that does not fit is refused.
        passages: Tokens that an index hands it at most: `retrieval.limit` passages of `chunking.size`.

    """
    window = spec.context_window
    if window is None:
        return None
    output = max(window.reserve_output_tokens, spec.defaults.max_output_tokens or 0, 1)
    if window.max_prompt_tokens is not None:
        return Budget(window.max_prompt_tokens, 0, output)
    staying = 0 if _gives_way(spec) else passages
    return Budget(1 + staying, staying, output)


def _gives_way(spec: PromptTemplateSpec) -> bool:
    """Whether passages are cut, or not read at all."""
    named = next((each.name for each in spec.variables if each.from_ == "retrieval"), None)
    priority = spec.context_window.priority if spec.context_window else None
    return named is None or named in (priority or ())


def conditions(
    resource: Resource, live: PromptTemplateSpec | None, models: Iterable[Resource]
) -> Mapping[ConditionType, Verdict]:
    """`Compatible=False` where no ready model of the namespace is large enough for the live prompt; else nothing.

    A model that has not said yet how much it reads is taken for large enough.
    """
    need = budget(live) if live is not None else None
    known = list(_contexts(resource, models))
    if need is None or not known or any(context is None or context >= need.total for _, context in known):
        return {}
    named = ", ".join(f"{name} reads {context}" for name, context in known[:_MAX_NAMED])
    more = f" and {len(known) - _MAX_NAMED} more are too small" if len(known) > _MAX_NAMED else ""
    message = (
        f"no ready model of this namespace can read it at full length: {need}, but {named}{more};"
        " lower spec.contextWindow or spec.defaults.maxOutputTokens, or deploy a model with a longer context"
    )
    return {ConditionType.COMPATIBLE: Verdict("False", Reason.INCOMPATIBLE, message)}


def _contexts(resource: Resource, models: Iterable[Resource]) -> Iterator[tuple[str, int | None]]:
    """Name of each ready model that generates, by name, and the tokens that it reads."""
    for model in sorted(models, key=lambda each: each.key.name):
        task = model.spec.get("task")
        is_ready = ready_condition(model).get("status") == "True"
        if model.key.namespace == resource.key.namespace and task == "generate" and is_ready:
            facts: Mapping[str, Any] = model.status.get("facts") or {}
            yield model.key.name, facts.get("contextTokens")
