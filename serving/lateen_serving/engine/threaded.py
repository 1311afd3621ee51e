# SPDX-License-Identifier: Apache-2.0
"""What all engines share whose model runs in a torch thread of this process. Base of `generator.py` and `encoder.py`."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from lateen_serving.engine.protocol import Description
from lateen_serving.engine.refusals import Refusals
from lateen_serving.engine.thread import TorchThread

if TYPE_CHECKING:
    from lateen_serving.engine.prompt import Spans


class Facts(Protocol):
    """What is known of any loaded model."""

    @property
    def spans(self) -> "Spans":
        """Where the tokens of texts are."""
        ...

    @property
    def description(self) -> Description:
        """What `describe` answers."""
        ...


FactsT = TypeVar("FactsT", bound=Facts)


class ThreadedEngine(Refusals, Generic[FactsT]):
    """The part of an `Engine` that asks nothing of the model, and its end."""

    def __init__(self, thread: TorchThread[Any], facts: FactsT) -> None:
        self._thread = thread
        self._facts = facts

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `protocol.Engine`."""
        return await asyncio.to_thread(self._facts.spans.of, texts)

    def describe(self) -> Description:
        """See `protocol.Engine`."""
        return self._facts.description

    async def check_health(self) -> None:
        """Raise Unavailable when the torch thread has ended."""
        self._thread.check()

    async def aclose(self) -> None:
        """End the torch thread; running requests end with Unavailable."""
        await self._thread.aclose()
