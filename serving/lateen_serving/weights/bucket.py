# SPDX-License-Identifier: Apache-2.0
"""Weights from an object store."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions

from lateen_serving.errors import LoadError
from lateen_serving.outbound import buckets, retrying
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.buckets import Store
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.outbound.wording import refused
from lateen_serving.weights import remote
from lateen_serving.weights.quota import Room
from lateen_serving.weights.remote import Part, Survey
from lateen_serving.weights.selection import MOST_FILES, Kind, choose
from lateen_serving.weights.uris import BucketSource

_CHUNK = 4 * 2**20


@dataclass(frozen=True)
class Bucket:
    """A `remote.Remote`."""

    source: BucketSource
    kind: Kind
    credentials: Credentials
    allowed: Allowed

    async def survey(self) -> Survey:
        """See `Remote`."""
        async with self._bucket.open() as store:
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
        async with self._bucket.open() as store:

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

    @property
    def _bucket(self) -> buckets.Bucket:
        return buckets.Bucket(
            self.source.store, self.source.bucket, self.credentials, self.allowed, self.where
        )

    async def _list(self, store: Store) -> dict[str, Part]:
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
            raise self._bucket.failure(error) from None
        return found

    async def _head(self, store: Store, path: str) -> Part:
        try:
            return _part(Path(path).name, await obstore.head_async(store, path))
        except (exceptions.BaseError, FileNotFoundError) as error:
            raise self._bucket.failure(error) from None

    async def _stream(self, store: Store, path: str) -> AsyncIterator[bytes]:
        try:
            reply = await obstore.get_async(store, path)
            async for chunk in reply.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)
        except (exceptions.BaseError, FileNotFoundError) as error:
            raise self._bucket.failure(error) from None


def _part(name: str, item: Any) -> Part:
    return Part(name, item["path"], buckets.version(item), item["size"])
