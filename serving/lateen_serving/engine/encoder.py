# SPDX-License-Identifier: Apache-2.0
"""What engines over encoders share: texts are read whole in one pass, nothing is generated.

`embedder.py` and `reranker.py` build on it. This side lives in the event loop and does no torch work: it tokenizes and
waits for the batcher in the torch thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lateen_serving.engine.channel import Channel
from lateen_serving.engine.jobs import EncodeJob, Rows, Tokens
from lateen_serving.engine.protocol import AdapterWeights, Description
from lateen_serving.engine.threaded import ThreadedEngine
from lateen_serving.errors import ContextTooLong

if TYPE_CHECKING:
    from lateen_serving.engine.prompt import Spans

PASS_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Tokens, padding included, in one forward pass."""


@dataclass(frozen=True)
class Facts:
    """What the event loop's side needs from the loaded model."""

    spans: "Spans"
    description: Description
    typed: bool = False
    """Whether the model is told which of two texts a token belongs to."""


class TextEncoder(ThreadedEngine[Facts]):
    """The part of an `Engine` that is the same for all tasks of encoders."""

    async def run(self, texts: list[Tokens]) -> Rows:
        """What the model makes of each of `texts`, in order; when the caller gives up, the work is dropped."""
        channel: Channel[Rows] = Channel()
        try:
            self._thread.submit(EncodeJob(texts, channel))
            (rows,) = await channel.receive()
        finally:
            channel.cancel()
        return rows

    def check_length(self, tokens: int, param: str, what: str) -> None:
        """Raise ContextTooLong that names `param` when `what` of so many tokens is more than the model reads."""
        limit = self._facts.description["max_tokens"]
        if tokens > limit:
            raise ContextTooLong(
                f"{what} is {tokens} tokens, but this model reads at most {limit}",
                param=param,
                context={"tokens": tokens, "max_tokens": limit},
            )

    async def set_adapters(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """None can be had."""
        return {adapter["name"]: "adapters are for task: generate" for adapter in adapters}

    def make_room(self, requests: int) -> None:
        """Nothing to do: passes are bounded by tokens."""
