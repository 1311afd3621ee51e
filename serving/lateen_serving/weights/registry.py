# SPDX-License-Identifier: Apache-2.0
"""Model artifacts of an OCI registry, as `oras push` and the CNCF model format make them, over plain HTTP calls.

    GET /v2/NAME/manifests/REFERENCE   the manifest, or an index whose first entry is taken
    GET /v2/NAME/blobs/DIGEST          a layer: a file named by its annotation, or a tar to unpack

A registry that answers 401 says where a token is to be had (distribution specification, token authentication).
"""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from lateen_serving.errors import LoadError
from lateen_serving.outbound import client, retrying
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.client import Client
from lateen_serving.outbound.credentials import Credentials, basic
from lateen_serving.weights import remote
from lateen_serving.weights.quota import Room
from lateen_serving.weights.remote import Part, Survey
from lateen_serving.weights.selection import Kind, check_name, choose
from lateen_serving.weights.uris import RegistrySource

_MANIFEST_BYTES = 4 * 2**20
_TOKEN_BYTES = 2**16
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_UNPACK = "io.deis.oras.content.unpack"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class _Descriptor(_Document):
    media_type: str = ""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    annotations: dict[str, str] | None = None

    def part(self, number: int) -> Part | None:
        """The layer as something to fetch; None for one that is neither named nor an archive."""
        notes = self.annotations or {}
        title = next((notes[key] for key in _TITLES if key in notes), None)
        tar = "tar" in re.split(r"[.+]", self.media_type.lower())
        sha256 = self.digest.removeprefix("sha256:")
        if tar and (title is None or notes.get(_UNPACK) == "true" or "cncf" in self.media_type):
            return Part(f".layer-{number}", self.digest, self.digest, self.size, sha256, archive=True)
        return None if title is None else Part(title, self.digest, self.digest, self.size, sha256)


class _Manifest(_Document):
    layers: Annotated[list[_Descriptor], Field(max_length=10_000)] = Field(default=[])
    manifests: Annotated[list[_Descriptor], Field(max_length=1000)] = Field(default=[])


class _Token(BaseModel):
    token: str | None = None
    access_token: str | None = None


@dataclass(frozen=True)
class Registry:
    """A `remote.Remote`."""

    source: RegistrySource
    kind: Kind
    credentials: Credentials
    allowed: Allowed
    transport: httpx.AsyncBaseTransport | None = None
    """What connects; None: the network."""

    async def survey(self) -> Survey:
        """See `Remote`."""
        async with client.connect(self.credentials.hint, self.allowed, transport=self.transport) as http:
            session = _Session(self, http)
            manifest = await retrying.insist(lambda: session.manifest(self.source.reference))
            if manifest.manifests and not manifest.layers:
                first = manifest.manifests[0].digest
                manifest = await retrying.insist(lambda: session.manifest(first))
        layers = [layer.part(number) for number, layer in enumerate(manifest.layers)]
        parts = [part for part in layers if part is not None]
        files = [part.name for part in parts if not part.archive]
        for name in files:
            check_name(name, self.where)
        if any(part.archive for part in parts):  # only when unpacked they show whether it is a model
            return Survey(tuple(parts))
        chosen = set(choose(files, self.kind, self.where))
        return Survey(tuple(part for part in parts if part.name in chosen))

    async def fill(self, survey: Survey, folder: Path, room: Room) -> list[str]:
        """See `Remote`."""
        left_out: list[str] = []
        async with client.connect(self.credentials.hint, self.allowed, transport=self.transport) as http:
            session = _Session(self, http)

            async def fetch(part: Part) -> None:
                if not remote.is_complete(part, folder):
                    await retrying.insist(
                        lambda: remote.save(session.blob(part.address), part, folder, self.where, room)
                    )
                if part.archive:
                    left_out.extend(await remote.unpack(part, folder, self.where, room))

            await remote.each(survey.parts, fetch)
        return left_out

    @property
    def where(self) -> str:
        """The artifact, for messages."""
        separator = "@" if self.source.fixed else ":"
        return f"oci://{self.source.host}/{self.source.name}{separator}{self.source.reference}"

    @property
    def base(self) -> str:
        """Address of the repository; without TLS only where the administrator allows it."""
        parts = urlsplit(f"//{self.source.host}")
        plain = self.allowed.plain(parts.hostname or "", parts.port or 80)
        return f"{'http' if plain else 'https'}://{self.source.host}/v2/{self.source.name}"


class _Session:
    """Calls with the authorization that the registry asked for."""

    def __init__(self, registry: Registry, http: Client) -> None:
        self._registry = registry
        self._http = http
        self._headers: dict[str, str] = {}

    async def manifest(self, reference: str) -> _Manifest:
        """A manifest or index, its checksum verified if `reference` is one; raises LoadError."""
        url = f"{self._registry.base}/manifests/{reference}"
        accept = {"Accept": ", ".join(_MANIFESTS)}
        reply = await self._http.read(url, _MANIFEST_BYTES, {**accept, **self._headers})
        if reply.status_code == 401 and await self._authorize(reply):
            reply = await self._http.read(url, _MANIFEST_BYTES, {**accept, **self._headers})
        self._http.check(reply, url)
        found = f"sha256:{hashlib.sha256(reply.content).hexdigest()}"
        if reference.startswith("sha256:") and found != reference:
            raise LoadError(f"{self._registry.where}: the manifest is {found}", code="DigestMismatch")
        try:
            return _Manifest.model_validate_json(reply.content)
        except ValidationError as error:
            raise LoadError(
                f"{self._registry.where} is no model artifact", code="ModelUnsupported"
            ) from error

    async def blob(self, digest: str) -> AsyncIterator[bytes]:
        """A layer's content; raises LoadError."""
        url = f"{self._registry.base}/blobs/{digest}"
        async with self._http.get(url, self._headers) as reply:
            if reply.status_code != 401:
                async for chunk in self._http.chunks(reply, url):
                    yield chunk
                return
        if not await self._authorize(reply):  # a token lives for minutes, a download may take longer
            self._http.check(reply, url)
        async with self._http.get(url, self._headers) as again:
            async for chunk in self._http.chunks(again, url):
                yield chunk

    async def _authorize(self, refusal: httpx.Response) -> bool:
        """Get what `refusal` asks for; False if there is no way."""
        challenge = refusal.headers.get("www-authenticate", "")
        scheme, _, rest = challenge.partition(" ")
        login = basic(self._registry.credentials)
        if scheme.lower() == "basic":
            self._headers = login
            return bool(login)
        if scheme.lower() != "bearer":
            return False
        if given := self._registry.credentials.get("token"):
            self._headers = {"Authorization": f"Bearer {given}"}
            return True
        facts = dict(_CHALLENGE.findall(rest))
        query = {"scope": f"repository:{self._registry.source.name}:pull"}
        if "service" in facts:
            query["service"] = facts["service"]
        url = f"{facts.get('realm', '')}?{urlencode(query)}"
        reply = await self._http.read(url, _TOKEN_BYTES, login)
        self._http.check(reply, url)
        try:
            answer = _Token.model_validate_json(reply.content)
        except ValidationError:
            raise LoadError(
                f"{self._registry.where}: the token service gave no token", code="SourceUnavailable"
            ) from None
        self._headers = {"Authorization": f"Bearer {answer.token or answer.access_token or ''}"}
        return True
