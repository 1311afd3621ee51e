# SPDX-License-Identifier: Apache-2.0
"""The embedding model of an index as its build job reaches it: a Ray Serve handle. Used by `build.py`.

The same replicas answer queries, so that vectors of passages and questions can't differ. A handle works only
inside a running event loop.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import ray.exceptions
from ray import serve
from ray.serve.exceptions import RayServeException

from lateen_api import names
from lateen_serving import errors
from lateen_serving.engine.protocol import Description, Embeddings
from lateen_serving.rag.protocol import BuildFailure
from lateen_serving.rag.retry import Patience, insist

_PATIENCE = Patience("ReferenceNotReady", attempt_seconds=180, total_seconds=120)

T = TypeVar("T")


class ServeEmbedder:
    """Implements `protocol.Embedder` on a model application."""

    def __init__(self, application: str) -> None:
        """Raises BuildFailure(ReferenceNotReady) when the application does not exist."""
        try:
            self._model: Any = serve.get_deployment_handle(names.MODEL_DEPLOYMENT, application)
        except (KeyError, RayServeException, ray.exceptions.RayError) as error:
            raise BuildFailure(
                "ReferenceNotReady", f"the embedder's application is not there: {error}"
            ) from error

    async def describe(self) -> Description:
        """Facts about the model."""
        return await _ask(self._model.describe.remote)

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of each token, without special tokens."""
        return await _ask(lambda: self._model.tokenize.remote(list(texts)))

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of texts."""
        return await _ask(lambda: self._model.embed.remote(list(texts)))


async def _ask(call: Callable[[], Awaitable[T]]) -> T:
    async def once() -> T:
        try:
            return await call()
        except errors.ServiceError:
            raise
        except (RayServeException, ray.exceptions.RayError) as error:
            first = (str(error).strip().splitlines() or [""])[-1][:300]
            raise errors.Unavailable(
                f"the embedder does not answer: {type(error).__name__}: {first}"
            ) from error

    return await insist(once, _PATIENCE)
