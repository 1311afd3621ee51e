# SPDX-License-Identifier: Apache-2.0
"""Weaviate as the data plane sees it; the only module of the data plane that imports its client.

`Connection` is shared by all that one process does there; `WeaviateStore` is the build job's side of a collection.
Searching is in `retrieve.py`, which gets its rows through `Connection.search`.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import weaviate
from weaviate import exceptions
from weaviate.classes.config import Configure, Property
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import Filter, HybridFusion, MetadataQuery
from weaviate.config import GrpcConfig
from weaviate.connect import ConnectionParams
from weaviate.util import generate_uuid5

from lateen_api import names, rag_index
from lateen_api.index_build import BuildReport
from lateen_serving import errors
from lateen_serving.rag import schema, settling
from lateen_serving.rag.passages import Search
from lateen_serving.rag.protocol import BuildFailure, Chunk, Entry, Stamp
from lateen_serving.rag.retry import Patience, insist
from lateen_serving.rag.where import where
from lateen_serving.settings import ServingSettings

_TIMEOUTS = Timeout(init=5, query=30, insert=60)
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]
"""Back within two seconds after Weaviate is; gRPC's own default is two minutes."""

_FUSIONS = {"RelativeScore": HybridFusion.RELATIVE_SCORE, "Ranked": HybridFusion.RANKED}

_RANKS = 60
"""What first in both searches is divided by in a fusion by rank: times this, scores are within 0 and 1."""

PATIENCE = Patience("StoreUnavailable", attempt_seconds=60, total_seconds=120)
_SCAN_SECONDS = 900.0
"""Longest time of reading a whole collection."""

_UNSUPPORTED = "store_unsupported"
"""Code of an error about a collection that Weaviate does not make in this way."""

_BATCH = 100
"""Objects per request."""

_PAGE = 1000
"""Objects per page when all are read."""

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A chunk as a search found it, with what Weaviate says about the match."""

    properties: Mapping[str, Any]
    fused: bool
    """Whether `score` is a fusion's, within 0 and 1."""

    score: float | None
    distance: float | None
    certainty: float | None
    vector: Sequence[float] | None = None


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

    async def search(self, collection: str, how: rag_index.Retrieval, wanted: Search) -> list[Row]:
        """The best chunks of `collection`; see `retrieve.Retriever.search` for the meaning and the errors."""
        is_vector, vector = how.mode == "Vector", list(wanted.vector or ())
        common: dict[str, Any] = {
            "limit": wanted.limit,
            "filters": where(wanted.filter) if wanted.filter else None,
            "include_vector": wanted.with_vectors,
            "return_properties": schema.RETURNED,
            "return_metadata": MetadataQuery(distance=is_vector, certainty=is_vector, score=not is_vector),
        }
        async with translated():
            asked = (await self.collection(collection)).query
            if is_vector:
                found = await asked.near_vector(vector, **common)
            elif how.mode == "Keyword":
                found = await asked.bm25(wanted.query, query_properties=schema.SEARCHED, **common)
            else:
                found = await asked.hybrid(
                    wanted.query,
                    vector=vector,
                    alpha=float(how.alpha),
                    fusion_type=_FUSIONS[how.fusion],
                    query_properties=schema.SEARCHED,
                    **common,
                )
        rows = [_row(item, is_fused=how.mode == "Hybrid") for item in found.objects]
        by_rank = how.mode == "Hybrid" and how.fusion == "Ranked"
        return [replace(row, score=_RANKS * (row.score or 0.0)) if by_rank else row for row in rows]

    async def at(self, collection: str, places: Sequence[tuple[str, int]]) -> list[Row]:
        """The chunks at `places` (document id, position), at most 1000; those that are not there are left out."""
        wanted = [schema.place(document, position) for document, position in places]
        async with translated():
            found = await (await self.collection(collection)).query.fetch_objects(
                filters=Filter.by_property(schema.PLACE).contains_any(wanted),
                limit=len(wanted),
                return_properties=schema.RETURNED,
            )
        return [_row(item, is_fused=True) for item in found.objects]

    async def stamp(self, collection: str) -> Stamp | None:
        """The embedder of a collection's vectors; None where none is recorded. Raises as `search` does."""
        async with translated():
            ledger = await self.collection(names.ledger_collection(collection))
            found = await ledger.query.fetch_object_by_id(generate_uuid5("embedder"))
        return None if found is None else Stamp(**json.loads(found.properties["body"]))


def _row(item: Any, *, is_fused: bool) -> Row:
    about = item.metadata
    vector = item.vector.get("default") if isinstance(item.vector, dict) else None
    return Row(item.properties, is_fused, about.score, about.distance, about.certainty, vector)


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
    except (exceptions.WeaviateBaseError, httpx.HTTPError) as error:
        raise _translation(error) from error


def _translation(error: Exception) -> errors.ServiceError:
    if isinstance(error, exceptions.WeaviateQueryError) and "could not find class" in str(error):
        return errors.NotFound("the index is not in the vector store", code="index_not_found")
    if isinstance(error, exceptions.WeaviateInsertManyAllFailedError):
        return errors.Unavailable(f"objects were not stored: {error.message[:200]}")
    status = error.status_code if isinstance(error, exceptions.UnexpectedStatusCodeError) else 0
    if status == 422:  # about the collection that is asked for, such as more replicas than nodes
        words = " ".join(str(error).split())[:300]
        return errors.ServiceError(f"the vector store refuses: {words}", code=_UNSUPPORTED)
    if 400 <= status < 500 and status != 429:
        return errors.ServiceError(f"the vector store refuses with HTTP {status}")
    return errors.Unavailable("the vector store does not answer", context={"cause": type(error).__name__})


class WeaviateStore:
    """One index's chunks and ledger in Weaviate; implements `protocol.Store`."""

    def __init__(
        self,
        connection: Connection,
        collection: str,
        settings: rag_index.Store,
        patience: Patience = PATIENCE,
    ) -> None:
        self._connection = connection
        self._chunks = collection
        self._ledger = names.ledger_collection(collection)
        self._settings = settings
        self._patience = patience

    async def ensure(self) -> None:
        """Create the two collections that are missing; BuildFailure(StoreUnsupported) where Weaviate can't keep them so."""
        settings = self._settings
        index = schema.vector_index(settings)
        await self._create(self._chunks, schema.chunk_properties(settings), index, settings.shards)
        await self._create(self._ledger, schema.LEDGER_PROPERTIES, Configure.VectorIndex.none(), 1)

    async def stamp(self) -> Stamp | None:
        """The embedder of the vectors that are there."""
        return await self._insist(partial(self._connection.stamp, self._chunks))

    async def put_stamp(self, stamp: Stamp) -> None:
        """Record the embedder."""
        body = json.dumps(asdict(stamp), sort_keys=True)
        await self._insert(self._ledger, [schema.ledger_row("embedder", "embedder", body=body)])

    async def put_report(self, report: BuildReport) -> None:
        """Write the report for the operator."""
        body = json.dumps(report.dump(), sort_keys=True)
        await self._insert(self._ledger, [schema.ledger_row("report", "report", body=body)])

    async def entries(self) -> dict[str, Entry]:
        """The ledger, by document id."""

        async def operation() -> dict[str, Entry]:
            ledger = await self._connection.collection(self._ledger)
            rows = ledger.iterator(return_properties=schema.ENTRY_PROPERTIES, cache_size=_PAGE)
            found = [
                schema.entry(row.properties) async for row in rows if row.properties["kind"] == "document"
            ]
            return {entry.document_id: entry for entry in found}

        return await self._insist(operation, attempt_seconds=_SCAN_SECONDS)

    async def put_entries(self, entries: Sequence[Entry]) -> None:
        """Write entries, replacing those of the same documents."""
        await self._insert(self._ledger, [schema.entry_row(entry) for entry in entries])

    async def drop_entries(self, document_ids: Sequence[str]) -> None:
        """Remove entries; missing ones are fine."""
        for some in _batches(document_ids):
            ids = [generate_uuid5(document_id) for document_id in some]
            await self._delete(self._ledger, Filter.by_id().contains_any(ids))

    async def put_chunks(self, chunks: Sequence[Chunk], vectors: npt.NDArray[np.float32]) -> None:
        """Write chunks; all of them are there when it returns."""
        rows = [
            schema.chunk_row(chunk, vector.tolist()) for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        await self._insert(self._chunks, rows)

    async def drop_chunks(self, document_ids: Sequence[str]) -> None:
        """Remove all chunks of documents."""
        for some in _batches(document_ids):
            await self._delete(self._chunks, Filter.by_property("document_id").contains_any(list(some)))

    async def drop_stale(self, document_id: str, content_hash: str) -> None:
        """Remove the chunks of a document that were cut from other content."""
        document = Filter.by_property("document_id").equal(document_id)
        await self._delete(
            self._chunks, document & Filter.by_property("content_hash").not_equal(content_hash)
        )

    async def count(self) -> int:
        """Number of chunks."""

        async def operation() -> int:
            chunks = await self._connection.collection(self._chunks)
            return int((await chunks.aggregate.over_all(total_count=True)).total_count)

        return await self._insist(operation)

    async def count_by_document(self) -> Mapping[str, int]:
        """Number of chunks of each document, by looking at every chunk."""

        async def operation() -> Mapping[str, int]:
            chunks = await self._connection.collection(self._chunks)
            rows = chunks.iterator(return_properties=["document_id"], cache_size=_PAGE)
            return Counter([str(row.properties["document_id"]) async for row in rows])

        return await self._insist(operation, attempt_seconds=_SCAN_SECONDS)

    async def _create(self, name: str, properties: list[Property], index: Any, shards: int) -> None:
        async def operation() -> None:
            collections = (await self._connection.client()).collections
            if not await collections.exists(name):
                await collections.create(
                    name,
                    properties=properties,
                    vector_config=Configure.Vectors.self_provided(vector_index_config=index),
                    sharding_config=Configure.sharding(desired_count=shards),
                    replication_config=Configure.replication(factor=self._settings.replicas),
                )

        try:
            await self._insist(operation)
        except BuildFailure as failure:
            cause = failure.__cause__
            if isinstance(cause, errors.ServiceError) and cause.code == _UNSUPPORTED:
                message = f"spec.store: {failure}{_remedy(str(failure))}"
                raise BuildFailure("StoreUnsupported", message) from cause
            raise

    async def settle(self) -> None:
        """Wait until searches know every vector that was written."""
        await settling.settle(self._queued)

    async def _queued(self) -> int:
        """Vectors that are written but not in the index yet: with ASYNC_INDEXING they are queued, else there are none."""

        async def operation() -> int:
            cluster = (await self._connection.client()).cluster
            nodes = await cluster.nodes(self._chunks, output="verbose")
            return sum(shard.vector_queue_length for node in nodes for shard in node.shards or ())

        return await self._insist(operation)

    async def _insert(self, collection: str, rows: Sequence[Any]) -> None:
        async def operation(some: Sequence[Any]) -> None:
            outcome = await (await self._connection.collection(collection)).data.insert_many(some)
            if outcome.errors:
                first = next(iter(outcome.errors.values())).message
                raise errors.Unavailable(f"{len(outcome.errors)} objects were not stored: {first[:200]}")

        for some in _batches(rows):
            await self._insist(partial(operation, some))

    async def _delete(self, collection: str, where: Any) -> None:
        async def operation() -> None:
            data = (await self._connection.collection(collection)).data
            while (outcome := await data.delete_many(where)).matches:  # one call removes a bounded number
                if outcome.failed:
                    raise errors.Unavailable(f"{outcome.failed} objects were not deleted")

        await self._insist(operation)

    async def _insist(self, operation: Callable[[], Awaitable[T]], attempt_seconds: float | None = None) -> T:
        async def once() -> T:
            async with translated():
                return await operation()

        patience = self._patience
        return await insist(
            once, replace(patience, attempt_seconds=attempt_seconds or patience.attempt_seconds)
        )


def _remedy(words: str) -> str:
    if "async indexing" not in words:
        return ""
    return (
        " Run Weaviate with ASYNC_INDEXING=true (on one machine: ASYNC_INDEXING=true lateen up), or set"
        " vectorIndex: hnsw or flat."
    )


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
