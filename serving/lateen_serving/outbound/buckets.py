# SPDX-License-Identifier: Apache-2.0
"""Object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Used by `weights/bucket.py` and `rag/objects.py`. Without a Secret of its own a source is read with the identity of the
node (its environment, its cloud identity); with one, with nothing but the Secret's. Where the store is, if the Secret
does not say it, is the node's administrator's choice.
"""

import base64
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from lateen_serving.errors import LoadError
from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.outbound.tunnel import tunnel
from lateen_serving.outbound.wording import refused

_CONNECT, _WHOLE = timedelta(seconds=10), timedelta(hours=6)
_STATUS = re.compile(r"status code: (\d{3})")
_PLAIN = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""Variables by which an administrator lets the node's own endpoint be one without TLS."""

_SAS = re.compile(r"\??([A-Za-z]+=[^&\s]+)(&[A-Za-z]+=[^&\s]+)*")
_OWN = {
    "s3": ("access_key_id", "secret_access_key", "session_token"),
    "gs": ("service_account_key",),
    "az": ("account_key", "sas_key", "client_id", "client_secret"),
}
"""Keys by which a Secret brings an identity of its own."""

_IDENTITIES: dict[Literal["s3", "gs", "az"], tuple[tuple[str, ...], ...]] = {
    "s3": (("access_key_id", "secret_access_key"),),
    "gs": (("service_account_key",),),
    "az": (
        ("account_name", "account_key"), ("account_name", "sas_key"),
        ("account_name", "tenant_id", "client_id", "client_secret"),
    ),
}  # fmt: skip
"""What a Secret must have, one set or the other, unless nothing is signed: what is missing would be taken of the node."""

_HIDING = {
    "service_account_key": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_BEARER_TOKEN"),
    "client_secret": (
        "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_TOKEN",
        "AZURE_FEDERATED_TOKEN_FILE",
    ),
}  # fmt: skip
"""Variables of the node that the stores' clients prefer to a Secret's key which only they can use."""

_SHAPES = {
    "region": re.compile(r"[a-z0-9-]{1,64}"),
    "account_name": re.compile(r"[a-z0-9]{3,24}"),
    "tenant_id": re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"),
}
"""Values that become part of a host's name or of an address: nothing else can be in them."""

_KEYS = {
    "s3": {
        *_OWN["s3"], "skip_signature", "region", "endpoint", "allow_http", "virtual_hosted_style_request",
        "request_payer",
    },
    "gs": {*_OWN["gs"], "skip_signature"},
    "az": {*_OWN["az"], "skip_signature", "account_name", "tenant_id", "endpoint", "allow_http"},
}  # fmt: skip
"""Keys a Secret may have: not those by which the node would read files or ask hosts on the author's behalf."""

_ACCOUNT_FIELDS = ("type", "project_id", "private_key_id", "private_key", "client_email")
"""What is taken of a service account: its other fields would name hosts."""

Kind = Literal["s3", "gs", "az"]
Provider = Callable[[], dict[str, Any]]
Store = S3Store | GCSStore | AzureStore


@dataclass(frozen=True)
class Bucket:
    """A bucket (of Azure: a container) and who reads it."""

    kind: Kind
    name: str
    credentials: Credentials
    allowed: Allowed
    where: str
    """What is read, for messages."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """The store's client, for the block; raises LoadError."""
        config = configuration(self.kind, self.credentials)
        own = provider(self.kind, config, self.credentials.name)
        if "endpoint" not in config:  # the node's own, which is the administrator's choice
            yield self._made(config, None, own)
            return
        await self._check(config["endpoint"])
        async with tunnel(self.allowed) as proxy:
            yield self._made(config, proxy, own)

    def _made(self, config: dict[str, str], proxy: str | None, own: Provider | None) -> Store:
        plain = config.pop("allow_http", "") == "true"
        if (
            proxy is None
        ):  # the client takes the endpoint from the node's environment, but not this beside options
            plain = plain or os.environ.get(_PLAIN[self.kind]) == "true"
        client: dict[str, Any] = {"connect_timeout": _CONNECT, "timeout": _WHOLE, "allow_http": plain}
        if proxy is not None:
            client["proxy_url"] = proxy
        retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
        kinds: dict[Kind, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
        try:
            store: Store = kinds[self.kind](
                self.name, config=config, client_options=client, retry_config=retry, credential_provider=own
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

    def failure(self, error: Exception) -> LoadError:
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


def version(item: Any) -> str:
    """What changes with an object's content: its entity tag, else the time of its last change."""
    return str(item["e_tag"] or item["last_modified"].isoformat())


def configuration(store: Kind, credentials: Credentials) -> dict[str, str]:
    """The store's options from a Secret's keys.

    Raises LoadError: SourceRefused for a key that is not allowed, SourceUnauthorized where one is missing.
    """
    config = dict(credentials.values)
    unknown = sorted(config.keys() - _KEYS[store])
    if unknown:
        known = ", ".join(sorted(_KEYS[store]))
        raise refused(f"Secret {credentials.name} has the key {unknown[0]}; known for {store}:// are {known}")
    for name, shape in _SHAPES.items():
        if name in config and not shape.fullmatch(config[name]):
            raise refused(f"Secret {credentials.name}: {name} is not one")
    if credentials.name:
        _check_complete(store, config, credentials.name)
        config.setdefault("skip_signature", "false")  # else the node's environment would say it
    if account := config.get("service_account_key"):
        config["service_account_key"] = _account(account, credentials.name)
    return config


def _check_complete(store: Kind, config: dict[str, str], secret: str) -> None:
    """Raise LoadError SourceUnauthorized that names the keys which a Secret lacks."""
    present = {name for name, value in config.items() if value}
    sets = _IDENTITIES[store]
    if config.get("skip_signature") == "true":
        sets = (("account_name",),) if store == "az" else ((),)
    elif "endpoint" in present and store == "az":
        sets = sets[:2]  # an application's token would come from a second host
    nearest = min(sets, key=lambda names: len(set(names) - present))
    missing = [name for name in nearest if name not in present]
    if missing:
        needed = ", or ".join(" and ".join(names) for names in sets)
        raise _no_key(
            secret,
            f"it lacks {' and '.join(missing)}: {store}:// needs {needed}, or for a public bucket skip_signature: true;"
            " the node's own identity is not used beside a Secret",
        )


def provider(store: Kind, config: dict[str, str], secret: str) -> Provider | None:
    """What answers whenever the store's client wants credentials, made of the Secret's own; these are taken out of
    `config`. Without it the client would mix them with what it finds in the node's environment, or prefer that.

    None: nothing is signed, or the Secret has no credentials, or such that only the client can use. Raises LoadError
    SourceUnauthorized for a key that is none, and SourceRefused where the node's environment hides the Secret's.
    """
    is_public = config.get("skip_signature") == "true"
    found = {} if is_public else _handed(store, config, secret)
    if is_public or found:
        for name in _OWN[store]:
            config.pop(name, None)
    if is_public:
        return None
    if found:
        return lambda: {"expires_at": None, **found}
    for name in _HIDING.keys() & config.keys():
        if hiding := [variable for variable in _HIDING[name] if os.environ.get(variable)]:
            raise refused(f"Secret {secret}: {name} is hidden by {hiding[0]} of the Ray node; unset it there")
    return None


def _handed(store: Kind, config: dict[str, str], secret: str) -> dict[str, Any]:
    """What the client takes of a Secret's keys as they are; empty where there is nothing of the kind."""
    if store == "s3" and {"access_key_id", "secret_access_key"} <= config.keys():
        names = ("access_key_id", "secret_access_key")
        return {name: config[name] for name in names} | {"token": config.get("session_token")}
    if store == "az" and (key := config.get("account_key")):
        try:
            base64.b64decode(key, validate=True)
        except ValueError:
            raise _no_key(secret, "account_key is not the base64 text that Azure shows") from None
        return {"access_key": key}
    if store == "az" and (token := config.get("sas_key")):
        if not _SAS.fullmatch(token):
            raise _no_key(secret, "sas_key is not a shared access signature such as sv=...&sig=...")
        return {"sas_token": token}
    return {}


def _no_key(secret: str, why: str) -> LoadError:
    return LoadError(f"Secret {secret}: {why}", code="SourceUnauthorized")


def _account(text: str, secret: str) -> str:
    try:
        document = json.loads(text)
        return json.dumps({name: document[name] for name in _ACCOUNT_FIELDS})
    except (ValueError, KeyError, TypeError):
        raise _no_key(secret, "service_account_key is not the JSON key of a service account") from None
