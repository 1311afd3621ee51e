# SPDX-License-Identifier: Apache-2.0
"""Finds a model's or an adapter's weights: turns a source into a folder of this node that is safe to load.

Called by the engine before it loads. Every failure is a LoadError whose code says who has to act: SourceNotFound,
SourceRefused, SourceUnauthorized, DigestMismatch and ModelUnsupported the spec's author, CacheFull the administrator;
SourceUnavailable heals by waiting.
"""

import asyncio
import logging
import time
from pathlib import Path

from lateen_api import digests
from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.outbound import credentials
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.outbound.wording import shown
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import cache, gguf, local, quota, uris
from lateen_serving.weights.bucket import Bucket
from lateen_serving.weights.cache import Cache, Use
from lateen_serving.weights.hub import Hub
from lateen_serving.weights.quota import Room
from lateen_serving.weights.registry import Registry
from lateen_serving.weights.remote import Remote, Survey
from lateen_serving.weights.selection import Kind, choose
from lateen_serving.weights.uris import BucketSource, FolderSource, HubSource, RemoteSource, WebSource
from lateen_serving.weights.web import Web

_log = logging.getLogger(__name__)


async def resolve(weights: WeightsArguments, settings: ServingSettings) -> Path:
    """The folder with a model's configuration, tokenizer and safetensors; fetched and converted first if need be.

    A folder of the cache is not evicted while this process lives. Raises LoadError.
    """
    return await _resolve(weights, settings, "model")


async def resolve_adapter(weights: WeightsArguments, settings: ServingSettings) -> Path:
    """The folder with a LoRA adapter's `adapter_config.json` and safetensors; otherwise as `resolve`."""
    return await _resolve(weights, settings, "adapter")


async def _resolve(weights: WeightsArguments, settings: ServingSettings, kind: Kind) -> Path:
    source = uris.parse(weights.uri, settings)
    store = Cache(settings.model_cache, settings.model_cache_bytes)
    try:
        if isinstance(source, FolderSource):
            place = await asyncio.to_thread(local.locate, source, kind)
            await asyncio.to_thread(_verify, place, weights.digest, weights.uri)
            file = await asyncio.to_thread(gguf.find, place)
            if file is None:
                return place
            return (await gguf.converted(file, gguf.identity(file), store)).folder
        await asyncio.to_thread(store.prepare)
        secret = await asyncio.to_thread(credentials.read, weights.secret, settings.secrets)
        remote = _remote(source, kind, secret, Allowed.of(settings.source_hosts))
        return (await Fetch(weights, source, kind, remote, store).folder()).folder
    except OSError as error:
        if quota.is_full(error):
            raise quota.full(None, store.root, 0, f"{error.strerror}; give the volume more room") from error
        raise LoadError(
            f"{shown(weights.uri)} can't be read: {error.strerror or type(error).__name__}",
            code="SourceUnavailable",
        ) from error


def _remote(source: RemoteSource, kind: Kind, secret: Credentials, allowed: Allowed) -> Remote:
    if isinstance(source, HubSource):
        return Hub(source, kind, secret)
    if isinstance(source, BucketSource):
        return Bucket(source, kind, secret, allowed)
    if isinstance(source, WebSource):
        return Web(source, kind, secret, allowed)
    return Registry(source, kind, secret, allowed)


class Fetch:
    """One source on its way into the cache."""

    def __init__(
        self, weights: WeightsArguments, source: RemoteSource, kind: Kind, remote: Remote, store: Cache
    ) -> None:
        self._weights = weights
        self._source = source
        self._kind = kind
        self._remote = remote
        self._store = store
        # Who asks is part of it: what one Secret may read is no proof for another.
        self._asked = cache.key((weights.uri, weights.secret or "", weights.digest or "", kind))
        self._where = shown(weights.uri)

    async def folder(self) -> Use:
        """The entry of the cache, held; raises LoadError or OSError.

        What can't change is not asked for again; what can't be asked now is served as it was known last.
        """
        if (self._source.fixed or self._weights.digest) and (use := self._known()):
            return use
        try:
            survey = await self._remote.survey()
        except LoadError as error:
            if error.code != "SourceUnavailable" or (use := self._known()) is None:
                raise
            _log.warning("%s; the weights of an earlier start are used", error.message)
            return use
        entry = cache.key((self._source.place, *survey.identity, self._weights.digest or ""))
        use = self._ready(entry) or await self._obtain(entry, survey)
        await asyncio.to_thread(self._store.remember, self._asked, entry, use)
        return use

    def _known(self) -> Use | None:
        entry = self._store.known(self._asked)
        return None if entry is None else self._ready(entry)

    def _ready(self, entry: str) -> Use | None:
        """The entry, or what was made from it, if it is there."""
        if use := self._store.use(gguf.key(entry)):
            return use
        use = self._store.use(entry)
        if use is not None and gguf.find(use.folder) is not None:
            use.release()
            return None
        return use

    async def _obtain(self, entry: str, survey: Survey) -> Use:
        started = time.monotonic()

        async def fill(folder: Path, room: Room) -> None:
            left_out = await self._remote.fill(survey, folder, room)
            await asyncio.to_thread(self._finish, folder, left_out)

        use = await self._store.obtain(entry, survey.size, fill)
        _log.info("%s is in the cache after %.1f s (%s)", self._where, time.monotonic() - started, use.folder)
        file = await asyncio.to_thread(gguf.find, use.folder)
        if file is None:
            return use
        try:
            return await gguf.converted(file, entry, self._store)
        finally:
            use.release()

    def _finish(self, folder: Path, left_out: list[str]) -> None:
        """Leave nothing but the files of the model, and check them; raises LoadError."""
        there = local.names(folder)
        chosen = set(
            choose([name for name in there if not _is_hidden(name)] + left_out, self._kind, self._where)
        )
        for name in there:
            if name not in chosen:
                (folder / name).unlink()
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        _verify(folder, self._weights.digest, self._where)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _verify(place: Path, expected: str | None, where: str) -> None:
    if expected is None:
        return
    found = digests.of_folder(place)
    if found != expected:
        raise LoadError(f"{where} has the digest {found}, the spec says {expected}", code="DigestMismatch")
