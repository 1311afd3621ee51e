# SPDX-License-Identifier: Apache-2.0
"""Weaviate as the data plane sees it; the only module of the data plane that imports its client.

`Connection` is shared by all that one process does there; `WeaviateStore` is the build job's side of a collection.
Searching is in `retrieve.py`, which gets its rows through `Connection.search`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import weaviate
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import HybridFusion, MetadataQuery
from weaviate.config import GrpcConfig
from weaviate.connect import ConnectionParams
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateBaseError, WeaviateQueryError

from lateen_serving import errors
from lateen_serving.settings import ServingSettings

SEARCHED = ["text", "heading", "title"]
"""Properties that keyword search looks at."""

RETURNED = ["document_id", "path", "text", "heading", "position", "uri"]
"""Properties of a row."""

_TIMEOUTS = Timeout(init=5, query=30, insert=60)
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]
"""Back within two seconds after Weaviate is; gRPC's own default is two minutes."""


@dataclass(frozen=True)
class Row:
    """A chunk as a search found it, with what Weaviate says about the match."""

    properties: Mapping[str, Any]
    fused: bool
    """Whether `score` is a fusion's, within 0 and 1."""

    score: float | None
    distance: float | None
    certainty: float | None


class Connection:
    """One Weaviate client, opened by the first use and shared from then on; it reconnects by itself."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._client: weaviate.WeaviateAsyncClient | None = None
        self._opening: asyncio.Task[weaviate.WeaviateAsyncClient] | None = None

    async def client(self) -> weaviate.WeaviateAsyncClient:
        """The open client; callers that come while it is being opened share the attempt and its failure."""
        if self._client is not None:
            return self._client
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def collection(self, name: str) -> Any:
        """The collection or alias `name`; `Any` because the client's generics say nothing about our rows."""
        return (await self.client()).collections.use(name)

    async def aclose(self) -> None:
        """Close the client if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _open(self) -> weaviate.WeaviateAsyncClient:
        key = self._settings.weaviate_api_key.get_secret_value()
        client = weaviate.WeaviateAsyncClient(
            connection_params=_address(self._settings),
            auth_client_secret=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(
                timeout=_TIMEOUTS, grpc_config=GrpcConfig(channel_options=_CHANNEL)
            ),
            skip_init_checks=True,  # they ask a package index on the internet for newer clients
        )
        try:
            await client.connect()
        except BaseException:
            await client.close()
            raise
        return client

    def _opened(self, task: "asyncio.Task[weaviate.WeaviateAsyncClient]") -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._client = task.result()

    async def search(
        self, alias: str, *, mode: str, query: str, vector: Sequence[float] | None, alpha: float, limit: int
    ) -> list[Row]:
        """The best `limit` chunks of `alias`; see `retrieve.Retriever.search` for the meaning and the errors."""
        async with translated():
            asked = (await self.collection(alias)).query
            common = {"limit": limit, "return_properties": RETURNED}
            if mode == "Vector":
                metadata = MetadataQuery(distance=True, certainty=True)
                found = await asked.near_vector(list(vector or ()), return_metadata=metadata, **common)
            elif mode == "Keyword":
                metadata = MetadataQuery(score=True)
                found = await asked.bm25(query, query_properties=SEARCHED, return_metadata=metadata, **common)
            else:
                found = await asked.hybrid(
                    query,
                    vector=list(vector or ()),
                    alpha=alpha,
                    fusion_type=HybridFusion.RELATIVE_SCORE,
                    query_properties=SEARCHED,
                    return_metadata=MetadataQuery(score=True),
                    **common,
                )
        return [_row(item, fused=mode == "Hybrid") for item in found.objects]


def _row(item: Any, *, fused: bool) -> Row:
    return Row(item.properties, fused, item.metadata.score, item.metadata.distance, item.metadata.certainty)


def _address(settings: ServingSettings) -> ConnectionParams:
    url = urlsplit(settings.weaviate_url)
    secure = url.scheme == "https"
    host = url.hostname or "127.0.0.1"
    return ConnectionParams.from_params(
        http_host=host,
        http_port=url.port or (443 if secure else 80),
        http_secure=secure,
        grpc_host=host,
        grpc_port=settings.weaviate_grpc_port,
        grpc_secure=secure,
    )


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns the client's exceptions into ours: NotFound, Unavailable, or ServiceError where repeating is no use."""
    try:
        yield
    except (WeaviateBaseError, httpx.HTTPError) as error:
        raise _translation(error) from error


def _translation(error: Exception) -> errors.ServiceError:
    if isinstance(error, WeaviateQueryError) and "could not find class" in str(error):
        return errors.NotFound("the index is not in the vector store", code="index_not_found")
    if (
        isinstance(error, UnexpectedStatusCodeError)
        and 400 <= error.status_code < 500
        and error.status_code != 429
    ):
        return errors.ServiceError(f"the vector store refuses with HTTP {error.status_code}")
    return errors.Unavailable("the vector store does not answer", context={"cause": type(error).__name__})
