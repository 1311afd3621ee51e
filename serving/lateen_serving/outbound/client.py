# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of `web.py` and `registry.py`: checked addresses, bounded replies, errors as LoadErrors."""

import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from lateen_serving.errors import LoadError
from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.wording import shown

_CHUNK = 2**20
_TIMEOUT = httpx.Timeout(10.0, read=60.0)
_MOST_REDIRECTS = 5
_LAST_PORT = 65535
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects only to addresses that are permitted, at every redirect anew.

    The request goes to the address that was checked, with the name in `Host` and in TLS, so that a name that
    resolves to something else a moment later gains nothing.
    """

    def __init__(self, allowed: Allowed, inner: httpx.AsyncBaseTransport) -> None:
        self._allowed = allowed
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx; raises Forbidden, Unresolved or httpx.TransportError."""
        host, scheme = request.url.host, request.url.scheme
        port = request.url.port or (443 if scheme == "https" else 80)
        if scheme != "https" and not (scheme == "http" and self._allowed.plain(host, port)):
            raise addresses.Forbidden(f"{scheme}://{host} is refused: only https is spoken")
        if port > _LAST_PORT:
            raise addresses.Forbidden(f"{host}:{port} is refused: there is no such port")
        failure: httpx.ConnectError | None = None
        for address in await addresses.resolve(host, port, self._allowed):
            try:
                return await self._inner.handle_async_request(_pinned(request, host, address))
            except httpx.ConnectError as error:
                failure = error
        raise failure or httpx.ConnectError(f"{host} has no address")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def _pinned(request: httpx.Request, host: str, address: addresses.Address) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


@dataclass(frozen=True)
class Probe:
    """What a server says about a file without sending it."""

    size: int | None
    version: str
    """Entity tag, else the time of the last change, else empty."""


@dataclass(frozen=True)
class Client:
    """One source's client; `hint` tells whose access was refused. Open it with `connect`."""

    http: httpx.AsyncClient
    hint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[httpx.Response]:
        """The reply to a GET, its body not read; raises LoadError for every failure, also while it is read."""
        try:
            async with self.http.stream("GET", url, headers={**self.headers, **(headers or {})}) as reply:
                yield reply
        except addresses.Forbidden as error:
            raise LoadError(f"{shown(url)}: {error}", code="SourceRefused") from None
        except addresses.Unresolved as error:
            raise LoadError(f"{shown(url)}: {error}", code="SourceUnavailable") from None
        except httpx.TooManyRedirects:
            raise LoadError(f"{shown(url)} redirects too often", code="SourceRefused") from None
        except httpx.InvalidURL:
            raise LoadError(f"{shown(url)} is no valid address", code="SourceRefused") from None
        except httpx.TransportError as error:
            if "location header" in str(error):  # the client has no class of its own for it
                raise LoadError(f"{shown(url)} leads to no valid address", code="SourceRefused") from None
            raise LoadError(
                f"{shown(url)} can't be read now ({type(error).__name__})", code="SourceUnavailable"
            ) from None

    async def read(self, url: str, limit: int, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The reply with a body of at most `limit` bytes, its status not checked; raises LoadError."""
        async with self.get(url, headers) as reply:
            body = bytearray()
            async for chunk in reply.aiter_raw(_CHUNK):
                body += chunk
                if len(body) > limit:
                    raise LoadError(f"{shown(url)} is longer than {limit} bytes", code="SourceRefused")
            return httpx.Response(
                reply.status_code, headers=reply.headers, content=bytes(body), request=reply.request
            )

    async def probe(self, url: str) -> Probe:
        """Size and version of a file. Asks for its first byte: signed addresses allow no HEAD. Raises LoadError."""
        async with self.get(url, {"Range": "bytes=0-0"}) as reply:
            if reply.status_code != 416:  # an empty file has no first byte
                self.check(reply, url)
            total = reply.headers.get("content-range", "").rpartition("/")[2]
            length = total if reply.status_code in {206, 416} else reply.headers.get("content-length", "")
            version = reply.headers.get("etag") or reply.headers.get("last-modified") or ""
            return Probe(int(length) if length.isdigit() else None, version)

    async def stream(self, url: str) -> AsyncIterator[bytes]:
        """The content of a file; raises LoadError."""
        async with self.get(url) as reply:
            async for chunk in self.chunks(reply, url):
                yield chunk

    async def chunks(self, reply: httpx.Response, url: str) -> AsyncIterator[bytes]:
        """The body of a successful reply that `get` gave; raises LoadError."""
        self.check(reply, url)
        async for chunk in reply.aiter_raw(_CHUNK):
            yield chunk

    def check(self, reply: httpx.Response, url: str) -> None:
        """Raise the LoadError for a reply that is no success."""
        status = reply.status_code
        if reply.is_success:
            return
        if status in {401, 403}:
            raise LoadError(f"{shown(url)} refuses access ({status}); {self.hint}", code="SourceUnauthorized")
        if status in {404, 410}:
            raise LoadError(f"{shown(url)} does not exist ({status})", code="SourceNotFound")
        code = "SourceUnavailable" if status in _TRANSIENT else "SourceRefused"
        raise LoadError(f"{shown(url)} answers {status}", code=code)


@asynccontextmanager
async def connect(
    hint: str,
    allowed: Allowed,
    *,
    headers: Mapping[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Client]:
    """A client that ends with the block.

    `hint` says what to do when access is refused; `headers` go with every request to the same host; `transport`
    connects to checked addresses (default: the network).
    """
    # At its INFO level httpx writes whole addresses, and signed ones carry their secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # A connection is verified for one name, but several names may share an address: none is used twice.
    limits = httpx.Limits(max_keepalive_connections=0)
    inner = transport or httpx.AsyncHTTPTransport(verify=ssl.create_default_context(), limits=limits)
    async with httpx.AsyncClient(
        transport=CheckedTransport(allowed, inner),
        timeout=_TIMEOUT,
        follow_redirects=True,
        max_redirects=_MOST_REDIRECTS,
        trust_env=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "lateen"},
    ) as http:
        yield Client(http, hint, headers or {})
