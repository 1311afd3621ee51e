# SPDX-License-Identifier: Apache-2.0
"""Weights from an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Without credentials of its own a source is read with those of the node (its environment, its cloud identity).
"""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from lateen_serving import addresses
from lateen_serving.addresses import Allowed
from lateen_serving.errors import LoadError
from lateen_serving.weights import remote, retrying
from lateen_serving.weights.credentials import Credentials
from lateen_serving.weights.quota import Room
from lateen_serving.weights.remote import Part, Survey
from lateen_serving.weights.selection import MOST_FILES, Kind, choose
from lateen_serving.weights.tunnel import tunnel
from lateen_serving.weights.uris import BucketSource, ObjectStore, refused

_CHUNK = 4 * 2**20
_CONNECT, _WHOLE = timedelta(seconds=10), timedelta(hours=6)
_STATUS = re.compile(r"status code: (\d{3})")
_OWN = {
    "s3": ("access_key_id", "secret_access_key", "session_token", "skip_signature"),
    "gs": ("service_account_key", "skip_signature"),
    "az": ("account_key", "sas_key", "client_id", "client_secret", "skip_signature"),
}
"""Keys by which a Secret brings an identity of its own."""

_COMPLETE = {"s3": {"access_key_id", "secret_access_key"}, "az": {"account_key"}}
"""Of these, what must be there for an endpoint of the author's choice: then nothing is asked of the node."""

_SHAPES = {
    "region": re.compile(r"[a-z0-9-]{1,64}"),
    "account_name": re.compile(r"[a-z0-9]{3,24}"),
    "tenant_id": re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"),
}
"""Values that become part of a host's name or of an address: nothing else can be in them."""

_KEYS = {
    "s3": {*_OWN["s3"], "region", "endpoint", "allow_http", "virtual_hosted_style_request", "request_payer"},
    "gs": {*_OWN["gs"]},
    "az": {*_OWN["az"], "account_name", "tenant_id", "endpoint", "allow_http"},
}
"""Keys a Secret may have: not those by which the node would read files or ask hosts on the author's behalf."""

_ACCOUNT_FIELDS = ("type", "project_id", "private_key_id", "private_key", "client_email")
"""What is taken of a service account: its other fields would name hosts."""

Provider = Callable[[], dict[str, Any]]
_Store = S3Store | GCSStore | AzureStore


@dataclass(frozen=True)
class Bucket:
    """A `remote.Remote`."""

    source: BucketSource
    kind: Kind
    credentials: Credentials
    allowed: Allowed

    async def survey(self) -> Survey:
        """See `Remote`."""
        async with self._open() as store:
            found = await retrying.insist(lambda: self._list(store))
        if not found:
            raise LoadError(f"{self.where} holds no objects", code="SourceNotFound")
        chosen = choose(found, self.kind, self.where)
        return Survey(tuple(found[name] for name in chosen), place=self._place())

    def _place(self) -> str:
        """Which store it is: a bucket's name means nothing without it."""
        names = ("endpoint", "account_name", "region")
        return " ".join(f"{name}={self.credentials.values.get(name, '')}" for name in names)

    async def fill(self, survey: Survey, folder: Path, room: Room) -> list[str]:
        """See `Remote`."""
        async with self._open() as store:

            async def fetch(part: Part) -> None:
                if not remote.is_complete(part, folder):
                    await retrying.insist(
                        lambda: remote.save(self._stream(store, part.address), part, folder, self.where, room)
                    )

            await remote.each(survey.parts, fetch)
        return []

    @property
    def where(self) -> str:
        """The folder, for messages."""
        return f"{self.source.store}://{self.source.bucket}/{self.source.path}"

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[_Store]:
        """The store's client, for the block; raises LoadError."""
        config = configuration(self.source.store, self.credentials)
        if "endpoint" not in config:  # the node's own, which is the administrator's choice
            yield self._made(config, None, None)
            return
        await self._check(config["endpoint"])
        own = provider(self.source.store, config)
        async with tunnel(self.allowed) as proxy:
            yield self._made(config, proxy, own)

    def _made(self, config: dict[str, str], proxy: str | None, own: Provider | None) -> _Store:
        plain = config.pop("allow_http", "") == "true"
        client: dict[str, Any] = {"connect_timeout": _CONNECT, "timeout": _WHOLE, "allow_http": plain}
        if proxy is not None:
            client["proxy_url"] = proxy
        retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
        kinds: dict[ObjectStore, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
        try:
            store: _Store = kinds[self.source.store](
                self.source.bucket,
                config=config,
                client_options=client,
                retry_config=retry,
                credential_provider=own,
            )
        except (exceptions.BaseError, ValueError) as error:
            raise LoadError(
                f"{self.where}: the credentials can't be used ({type(error).__name__}); {self.credentials.hint}",
                code="SourceUnauthorized",
            ) from None
        return store

    async def _check(self, endpoint: str) -> None:
        """Refuse an endpoint that must not be reached, in words that the tunnel's status can't carry."""
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allowed.plain(host, port)):
            raise refused(
                f"{self.where}: the endpoint is not https, nor a host of LATEEN_SOURCE_HOSTS with http://"
            )
        try:
            await addresses.resolve(host, port, self.allowed)
        except addresses.Forbidden as error:
            raise refused(f"{self.where}: endpoint {error}") from None
        except addresses.Unresolved as error:
            raise LoadError(f"{self.where}: endpoint {error}", code="SourceUnavailable") from None

    async def _list(self, store: _Store) -> dict[str, Part]:
        prefix = self.source.path
        if prefix.endswith(".gguf"):
            return {Path(prefix).name: await self._head(store, prefix)}
        found: dict[str, Part] = {}
        try:
            async for page in store.list(prefix=f"{prefix}/"):
                for item in page:
                    name = item["path"].removeprefix(f"{prefix}/")
                    if name and not item["path"].endswith("/"):
                        found[name] = _part(name, item)
                if len(found) > MOST_FILES:
                    raise refused(f"{self.where} has more than {MOST_FILES} objects")
        except exceptions.BaseError as error:
            raise self._failure(error) from None
        return found

    async def _head(self, store: _Store, path: str) -> Part:
        try:
            return _part(Path(path).name, await obstore.head_async(store, path))
        except (exceptions.BaseError, FileNotFoundError) as error:
            raise self._failure(error) from None

    async def _stream(self, store: _Store, path: str) -> AsyncIterator[bytes]:
        try:
            reply = await obstore.get_async(store, path)
            async for chunk in reply.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)
        except (exceptions.BaseError, FileNotFoundError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> LoadError:
        """The LoadError for what the store's client raised; its own text may repeat signed requests."""
        found = _STATUS.search(str(error))  # the client has no class of its own for what a listing meets
        status = int(found[1]) if found else 0
        denied = exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
        if isinstance(error, denied) or status in {401, 403}:
            return LoadError(
                f"{self.where}: access is refused; {self.credentials.hint}", code="SourceUnauthorized"
            )
        if isinstance(error, FileNotFoundError | exceptions.NotFoundError) or status == 404:
            return LoadError(f"{self.where} does not exist", code="SourceNotFound")
        return LoadError(f"{self.where} can't be read now ({type(error).__name__})", code="SourceUnavailable")


def _part(name: str, item: Any) -> Part:
    version = item["e_tag"] or item["last_modified"].isoformat()
    return Part(name, item["path"], version, item["size"])


def configuration(store: ObjectStore, credentials: Credentials) -> dict[str, str]:
    """The store's options from a Secret's keys; raises LoadError SourceRefused for a key that is not allowed."""
    config = dict(credentials.values)
    unknown = sorted(config.keys() - _KEYS[store])
    if unknown:
        known = ", ".join(sorted(_KEYS[store]))
        raise refused(f"Secret {credentials.name} has the key {unknown[0]}; known for {store}:// are {known}")
    for name, shape in _SHAPES.items():
        if name in config and not shape.fullmatch(config[name]):
            raise refused(f"Secret {credentials.name}: {name} is not one")
    anonymous = config.get("skip_signature") == "true"
    if "endpoint" in config and not anonymous and not _COMPLETE[store] <= config.keys():
        # The node's identity is for the stores that the administrator chose.
        needed = ", ".join(sorted(_COMPLETE[store]))
        raise refused(
            f"Secret {credentials.name} names an endpoint but no credentials for it: it needs {needed},"
            " or skip_signature: true"
        )
    if account := config.get("service_account_key"):
        config["service_account_key"] = _account(account, credentials.name)
    return config


def provider(store: ObjectStore, config: dict[str, str]) -> Provider | None:
    """What answers whenever the store's client wants credentials for an endpoint of the author's choice; taken out of
    `config`. Without it the client would prefer what it finds in the node's environment. None: it signs nothing.
    """
    taken = {name: config.pop(name) for name in _OWN[store] if name in config and name != "skip_signature"}
    if config.get("skip_signature") == "true":
        return None
    found: dict[str, Any] = {"expires_at": None}
    if store == "s3":
        found |= {name: taken[name] for name in ("access_key_id", "secret_access_key")}
        found["token"] = taken.get("session_token")
    else:
        found["access_key"] = taken["account_key"]
    return lambda: found


def _account(text: str, secret: str) -> str:
    try:
        document = json.loads(text)
        return json.dumps({name: document[name] for name in _ACCOUNT_FIELDS})
    except (ValueError, KeyError, TypeError):
        raise LoadError(
            f"Secret {secret}: service_account_key is not the JSON key of a service account",
            code="SourceUnauthorized",
        ) from None
