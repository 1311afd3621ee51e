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


def budget(spec: PromptTemplateSpec, passages: int = 0) -> Budget:
    """What `spec` (with its includes in place) needs by the numbers that it declares.

    Args:
        spec: The prompt; its own text counts as one token, because only a model's tokenizer knows more.
        passages: Tokens that an index hands it at most, as `prompt_targets.py` counts them.

    """
    window = spec.context_window
    output = max(window.reserve_output_tokens if window else 0, spec.defaults.max_output_tokens or 0, 1)
    if window is not None and window.max_prompt_tokens is not None:
        return Budget(window.max_prompt_tokens, 0, output)
    kept = staying(spec, passages)
    return Budget(1 + kept, kept, output)


def staying(spec: PromptTemplateSpec, passages: int) -> int:
    """How many of so many tokens of passages can't give way: all or none.

    The gateway adds passages for which a prompt has no variable to the system message, which is never cut.
    """
    named = next((each.name for each in spec.variables if each.from_ == "retrieval"), None)
    priority = spec.context_window.priority if spec.context_window else None
    return 0 if named is not None and named in (priority or ()) else passages


def conditions(
    resource: Resource, live: PromptTemplateSpec | None, models: Iterable[Resource]
) -> Mapping[ConditionType, Verdict]:
    """`Compatible=False` where no ready model of the namespace is large enough for the live prompt; else nothing.

    For prompts without targets. One without a context window promises nothing: it is as long as it is, and a request that
    does not fit is refused. A model that has not said yet how much it reads is taken for large enough.
    """
    if live is None or live.context_window is None:
        return {}
    need, known = budget(live), list(_contexts(resource, models))
    if not known or any(context is None or context >= need.total for _, context in known):
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
