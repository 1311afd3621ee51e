# SPDX-License-Identifier: Apache-2.0
"""The operator's only Weaviate I/O: collections, aliases and build reports, as `seams.Store`.

Wired by `main.py`, used by `reconcile/`. The connection is made by the first call that needs it, and made again
after a failure to connect; whatever goes wrong becomes `StoreUnavailable`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import structlog
import weaviate
from pydantic import ValidationError
from weaviate.classes.aggregate import Metrics
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import Filter
from weaviate.config import GrpcConfig
from weaviate.connect import ConnectionParams
from weaviate.exceptions import WeaviateBaseError
from weaviate.util import generate_uuid5

from lateen_api import names, pushing
from lateen_api.index_build import BuildReport
from lateen_operator.seams import PushState, StoreState, StoreUnavailable
from lateen_operator.settings import OperatorSettings

PREFIX = "Lateen_"
"""What the names of all our collections and aliases start with."""

REPORT = "report"
"""Key of the build report in a ledger."""

_TIMEOUTS = Timeout(init=3, query=15, insert=15)
PATIENT, IMPATIENT = 15.0, 3.0
"""Seconds that a look may take, and one after a look that failed: whoever needs no Weaviate waits for each of them."""

_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]
"""Back within two seconds after Weaviate is; gRPC's own default is two minutes."""

_MAX_REASON = 300
_FAILURES = (WeaviateBaseError, httpx.HTTPError, OSError, TimeoutError)

T = TypeVar("T")

log = structlog.get_logger(__name__)


class WeaviateStore:
    """`seams.Store`. To be used as an async context manager, in one event loop."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._client: weaviate.WeaviateAsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._answered = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def observe(self) -> StoreState:
        """What exists now, or why that is not known: models and prompts don't wait for Weaviate."""

        async def look(client: weaviate.WeaviateAsyncClient) -> StoreState:
            collections = await client.collections.list_all(simple=True)
            aliases = await client.alias.list_all()
            return StoreState(
                frozenset(name for name in collections if name.startswith(PREFIX)),
                {name: each.collection for name, each in aliases.items() if name.startswith(PREFIX)},
            )

        limit = PATIENT if self._answered else IMPATIENT
        self._answered = False
        try:
            async with asyncio.timeout(limit):
                found = await self._do("list the collections", look)
        except StoreUnavailable as error:
            return StoreState(problem=str(error))
        except TimeoutError:
            return StoreState(problem=f"Weaviate can't list the collections: no answer within {limit:g} s")
        self._answered = True
        return found

    async def report(self, collection: str) -> BuildReport | None:
        """The last build report of a collection's ledger; None when there is none yet."""
        ledger = names.ledger_collection(collection)

        async def read(client: weaviate.WeaviateAsyncClient) -> str | None:
            if not await client.collections.exists(ledger):
                return None
            found: Any = await client.collections.use(ledger).query.fetch_object_by_id(generate_uuid5(REPORT))
            return str(found.properties["body"]) if found else None

        body = await self._do(f"read the ledger of {collection}", read)
        try:
            return BuildReport.model_validate_json(body) if body else None
        except ValidationError as error:
            # Written by another version of the build: as good as none, so that a build writes it anew.
            log.warning("unreadable build report", collection=collection, errors=error.error_count())
            return None

    async def pushed(self, collection: str, since: float) -> PushState:
        """What a collection of pushed documents holds; nothing when it is not there yet."""
        present = Filter.by_property(pushing.GONE).equal(0)
        later = Filter.by_property(pushing.CHANGED).greater_than(int(since * 1000))
        nonces = Metrics(pushing.NONCE).integer(sum_=True)
        first = Metrics(pushing.CHANGED).integer(minimum=True)

        async def look(client: weaviate.WeaviateAsyncClient) -> PushState:
            if not await client.collections.exists(collection):
                return PushState()
            rows = client.collections.use(collection).aggregate
            now: Any = await rows.over_all(filters=present, total_count=True, return_metrics=nonces)
            state = pushing.state(int(now.total_count), now.properties[pushing.NONCE].sum_)
            changes: Any = await rows.over_all(filters=later, total_count=True, return_metrics=first)
            if not changes.total_count:
                return PushState(state)
            return PushState(state, float(changes.properties[pushing.CHANGED].minimum) / 1000)

        return await self._do(f"look into {collection}", look)

    async def point_alias(self, alias: str, collection: str) -> None:
        """Create the alias or move it, atomically."""

        async def point(client: weaviate.WeaviateAsyncClient) -> None:
            if not await client.alias.update(alias_name=alias, new_target_collection=collection):
                await client.alias.create(alias_name=alias, target_collection=collection)

        await self._do(f"point {alias} to {collection}", point)

    async def delete_alias(self, alias: str) -> None:
        """Delete an alias; gone is fine."""

        async def delete(client: weaviate.WeaviateAsyncClient) -> None:
            await client.alias.delete(alias_name=alias)

        await self._do(f"delete the alias {alias}", delete)

    async def delete_collection(self, collection: str) -> None:
        """Delete a collection; gone is fine."""

        async def delete(client: weaviate.WeaviateAsyncClient) -> None:
            await client.collections.delete(collection)

        await self._do(f"delete the collection {collection}", delete)

    async def _do(self, what: str, action: Callable[[weaviate.WeaviateAsyncClient], Awaitable[T]]) -> T:
        try:
            return await action(await self._connected())
        except _FAILURES as error:
            raise StoreUnavailable(f"Weaviate can't {what}: {_reason(error)}") from error

    async def _connected(self) -> weaviate.WeaviateAsyncClient:
        async with self._connecting:
            if self._client is None:
                client = _client(self._settings)
                try:
                    await client.connect()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client


def _client(settings: OperatorSettings) -> weaviate.WeaviateAsyncClient:
    address, key = urlsplit(settings.weaviate_url), settings.weaviate_api_key.get_secret_value()
    secure, host = address.scheme == "https", address.hostname or "localhost"
    return weaviate.WeaviateAsyncClient(
        connection_params=ConnectionParams.from_params(
            http_host=host,
            http_port=address.port or (443 if secure else 80),
            http_secure=secure,
            grpc_host=host,
            grpc_port=settings.weaviate_grpc_port,
            grpc_secure=secure,
        ),
        auth_client_secret=Auth.api_key(key) if key else None,
        additional_config=AdditionalConfig(
            timeout=_TIMEOUTS, grpc_config=GrpcConfig(channel_options=_CHANNEL)
        ),
        skip_init_checks=True,  # they ask a package index on the internet for newer clients
    )


def _reason(error: BaseException) -> str:
    """The error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_MAX_REASON]
