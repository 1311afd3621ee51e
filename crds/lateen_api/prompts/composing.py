# SPDX-License-Identifier: Apache-2.0
"""From a prompt's parts to the messages a model reads: the same in the gateway, and in a replica that must shorten them.

Pure. A message is a plain mapping with `role` and `content`, because it crosses processes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import post_processing
from lateen_api.prompts.cutting import Material

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Composer:
    """Composes one request's prompt, whole or shortened."""

    spec: PromptTemplateSpec
    instructions: str = ""
    """What the request adds in front of the system message."""

    reference: str = ""
    """What the gateway adds behind it: passages that the prompt has no variable for."""

    @cached_property
    def _prompt(self) -> rendering.CompiledPrompt:
        # Values were checked in the gateway: rules would only be compiled, for each request that is shortened.
        variables = [variable.model_copy(update={"rules": None}) for variable in self.spec.variables]
        return rendering.CompiledPrompt(self.spec.model_copy(update={"variables": variables}))

    def _retrieved(self, passages: Sequence[str]) -> str | list[str]:
        is_list = any(one.from_ == "retrieval" and one.type == "list" for one in self.spec.variables)
        return list(passages) if is_list else joined_passages(passages)

    def compose(self, material: Material[Message]) -> list[Message]:
        """The messages; those of the prompt that are empty, because their text was cut, are left out. Raises
        `rendering.InvalidVariable` where the prompt can't be rendered with what is left.
        """
        values = dict(material.values)
        if material.retrieval:
            values[material.retrieval] = self._retrieved(material.passages)
        rendered = [
            {"role": message.role, "content": message.content}
            for message in self._prompt.filled(values)
            if message.content
        ]
        return joined(rendered, material.conversation, self.instructions, self.reference)


def joined(
    prompt: Sequence[Message],
    conversation: Sequence[Message],
    instructions: str | None,
    reference: str | None,
) -> list[Message]:
    """The whole conversation: one system message, then the rest of the prompt, then the caller's messages.

    The system message joins `instructions`, the prompt's leading system messages and `reference`, because many
    models' chat templates know only one.
    """
    rest: list[Message] = [_as_system(message) for message in (*prompt, *conversation)]
    system = [instructions] if instructions else []
    while rest and rest[0]["role"] == "system":
        system.append(rest.pop(0)["content"])
    if reference:
        system.append(reference)
    text = "\n\n".join(system)
    return [{"role": "system", "content": text}, *rest] if text else rest


def _as_system(message: Message) -> Message:
    return {**message, "role": "system"} if message["role"] == "developer" else message


def joined_passages(passages: Sequence[str]) -> str:
    """Passages as the text of a variable."""
    return "\n\n".join(passages)


def retrieval_variable(spec: PromptTemplateSpec) -> str:
    """Name of the variable that is filled with passages; empty if none is."""
    return next((variable.name for variable in spec.variables if variable.from_ == "retrieval"), "")


def material(
    spec: PromptTemplateSpec,
    values: Mapping[str, Any],
    passages: Sequence[str],
    conversation: Sequence[Message],
) -> Material[Message]:
    """What may be cut of a request whose values are checked.

    Where the prompt redacts personal data, it is redacted before anything is cut, and what makes it plain comes before, in
    the order of the prompt's steps: half an address, or one with hidden characters in it, would not be known as one. A
    text without personal data is left as it is.
    """
    steps = post_processing.before_redaction(spec.post_processing)
    if steps is not None:
        values = {name: _changed(value, steps) for name, value in values.items()}
        passages = [_changed(passage, steps) for passage in passages]
    return Material(values, passages, conversation, retrieval_variable(spec))


def _changed(value: Any, steps: Sequence[Callable[[str], str]]) -> Any:
    if isinstance(value, list):
        return [_changed(item, steps) for item in value]
    if not isinstance(value, str):
        return value
    plain = reduce(lambda text, step: step(text), steps[:-1], value)
    redacted = steps[-1](plain)
    return value if redacted == plain else redacted


def order(spec: PromptTemplateSpec) -> list[str]:
    """What gives way, first to last; empty where nothing may."""
    window = spec.context_window
    if window is None or window.overflow == "Refuse":
        return []
    return list(reversed(window.priority or ()))
