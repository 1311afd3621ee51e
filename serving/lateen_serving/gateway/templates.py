# SPDX-License-Identifier: Apache-2.0
"""The prompts of the catalog, each parsed once: at its first use, and kept as long as the catalog has it.

Held by `state.py`, read by the steps that render.
"""

from collections.abc import Iterable

from lateen_api.catalog import Prompt, PromptRevision
from lateen_api.rendering import CompiledPrompt


class Templates:
    """Parsed prompts by their id and revision; all catalogs of a gateway replica share them."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, str], CompiledPrompt] = {}

    def get(self, prompt: Prompt, revision: PromptRevision) -> CompiledPrompt:
        """The parsed prompt."""
        key = (prompt.id, revision.revision)
        found = self._parsed.get(key)
        if found is None:
            found = self._parsed[key] = CompiledPrompt(revision.spec)
        return found

    def keep(self, prompts: Iterable[Prompt]) -> None:
        """Forget what no prompt has any more."""
        known = {(prompt.id, each.revision) for prompt in prompts for each in prompt.revisions}
        self._parsed = {key: parsed for key, parsed in self._parsed.items() if key in known}
