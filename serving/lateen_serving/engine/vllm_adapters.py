# SPDX-License-Identifier: Apache-2.0
"""The LoRA adapters of a vLLM engine: loaded and unloaded while it serves. Made by `vllm.py`.

Each load has an id and a name of its own, so that vLLM's prefix cache never mixes two versions of an adapter.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lateen_serving.engine.protocol import AdapterWeights
from lateen_serving.errors import NotFound

MakeRequest = Callable[[str, int, str], Any]
"""vLLM's LoRARequest of a name, an id and a folder."""


@dataclass(eq=False)
class Loaded:
    """An adapter that vLLM has."""

    request: Any
    """vLLM's LoRARequest."""
    number: int
    identity: str
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """A request begins to use it."""
        self.users += 1
        self.idle.clear()

    def leave(self) -> None:
        """A request has ended."""
        self.users -= 1
        if not self.users:
            self.idle.set()


class Adapters:
    """Which adapters there are, and who uses them."""

    def __init__(self, engine: Any, make: MakeRequest) -> None:
        self._engine = engine
        self._make = make
        self._loaded: dict[str, Loaded] = {}
        self._last = 0
        self._changing = asyncio.Lock()

    async def set(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """See `protocol.Engine.set_adapters`."""
        async with self._changing:
            wanted = {adapter["name"]: adapter for adapter in adapters}
            failures: dict[str, str] = {}
            retired = [self._loaded.pop(name) for name in self._loaded.keys() - wanted.keys()]
            for name, adapter in wanted.items():
                there = self._loaded.get(name)
                if there is not None and there.identity == adapter["identity"]:
                    continue
                try:
                    self._loaded[name] = await self._load(adapter)
                except Exception as error:  # noqa: BLE001 - told to the caller; the others answer
                    failures[name] = (str(error).strip().splitlines() or [type(error).__name__])[-1][:400]
                    self._loaded.pop(name, None)
                if there is not None:
                    retired.append(there)
            for old in retired:
                await self._retire(old)
            return failures

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Any]:
        """VLLM's LoRARequest of adapter `name`, which stays loaded meanwhile; None for the bare model.

        Raises NotFound.
        """
        if name is None:
            yield None
            return
        loaded = self._loaded.get(name)
        if loaded is None:
            raise NotFound(f"the model has no adapter '{name}'", param="model", code="model_not_found")
        loaded.enter()
        try:
            yield loaded.request
        finally:
            loaded.leave()

    async def _load(self, adapter: AdapterWeights) -> Loaded:
        self._last += 1
        request = self._make(f"{adapter['name']}#{self._last}", self._last, adapter["folder"])
        await self._engine.add_lora(request)
        loaded = Loaded(request, self._last, adapter["identity"])
        loaded.idle.set()
        return loaded

    async def _retire(self, old: Loaded) -> None:
        await old.idle.wait()
        await self._engine.remove_lora(old.number)
