# SPDX-License-Identifier: Apache-2.0
"""What an engine answers to tasks that its model has not: the caller's mistake, named. Base of the engines."""

from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

from lateen_serving.engine.protocol import Counted, Embeddings, GenerateRequest, Ranking, TokenEvent
from lateen_serving.errors import InputError


class Refusals:
    """Every task of `protocol.Engine`, refused; an engine overrides the one it does."""

    does: ClassVar[str]
    """What the model is for, in the words of a refusal."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Refused: raises InputError."""
        raise self._refusal("generate", {"messages": len(request["messages"])})

    async def count(self, request: GenerateRequest) -> Counted:
        """Refused: raises InputError."""
        raise self._refusal("count prompts", {"messages": len(request["messages"])})

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Refused: raises InputError."""
        raise self._refusal("embed", {"texts": len(texts)})

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """Refused: raises InputError."""
        raise self._refusal("rerank", {"characters": len(query), "documents": len(documents)})

    def _refusal(self, task: str, facts: dict[str, str | int | float]) -> InputError:
        return InputError(f"this model {self.does}; it does not {task}", param="model", context=facts)
