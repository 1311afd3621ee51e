# SPDX-License-Identifier: Apache-2.0
"""The prompts of the catalog, each parsed once and kept as long as the catalog has it.

Held by `state.py`, which parses live revisions before a catalog is served; read by the steps that render. Others are
parsed at their first use. All of it in threads, so that other requests go on.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from lateen_api.catalog import Prompt, PromptRevision
from lateen_api.rendering import CompiledPrompt

Key = tuple[str, str]
"""Id of a prompt and one of its revisions."""

AHEAD_SECONDS = 2.0
"""How long a catalog may wait for its prompts to be parsed."""


class Templates:
    """Parsed prompts; all catalogs of a gateway replica share them.

    Args:
        clock: Seconds that only grow.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parsed: dict[Key, CompiledPrompt] = {}
        self._known: frozenset[Key] = frozenset()
        self._parsing: dict[Key, asyncio.Task[CompiledPrompt]] = {}

    async def prepare(self, prompt: Prompt, revision: PromptRevision) -> None:
        """Let `get` find the prompt parsed; requests that come together wait for one thread."""
        key = (prompt.id, revision.revision)
        if key in self._parsed or key not in self._known:
            return
        task = self._parsing.get(key)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(CompiledPrompt, revision.spec))
            self._parsing[key] = task
            task.add_done_callback(lambda _: self._parsing.pop(key, None))
        parsed = await asyncio.shield(task)  # a client that leaves takes nothing from the others
        if key in self._known:
            self._parsed[key] = parsed

    def get(self, prompt: Prompt, revision: PromptRevision) -> CompiledPrompt:
        """The parsed prompt."""
        key = (prompt.id, revision.revision)
        found = self._parsed.get(key)
        if found is None:
            found = CompiledPrompt(revision.spec)
            if key in self._known:  # a request that began with an older catalog brings nothing back
                self._parsed[key] = found
        return found

    def ahead(self, prompts: Iterable[Prompt]) -> dict[Key, CompiledPrompt]:
        """The live revisions that are not parsed yet, for `keep`; those for which there is no time are left to `get`.

        Changes nothing, so that any thread may do it while requests go on. A spec that can't be parsed is left to `get`
        too, and fails the requests that use it, not the catalog.
        """
        until = self._clock() + AHEAD_SECONDS
        found: dict[Key, CompiledPrompt] = {}
        for prompt in prompts:
            live = prompt.revisions[0]
            key = (prompt.id, live.revision)
            if key in self._parsed:
                continue
            if self._clock() >= until:
                break
            with suppress(Exception):  # `get` raises it to those who ask for this one
                found[key] = CompiledPrompt(live.spec)
        return found

    def keep(self, prompts: Iterable[Prompt], ahead: Mapping[Key, CompiledPrompt]) -> None:
        """Know these prompts, of which `ahead` are parsed, and forget all others."""
        self._known = frozenset((prompt.id, each.revision) for prompt in prompts for each in prompt.revisions)
        parsed = {**ahead, **self._parsed}
        self._parsed = {key: one for key, one in parsed.items() if key in self._known}
