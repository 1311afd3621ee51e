# SPDX-License-Identifier: Apache-2.0
"""A proxy on loopback through which a client that resolves names itself reaches only permitted addresses.

Called by `bucket.py`: the object stores' client takes a proxy but no resolver, and a name that was checked before may
mean another address when the client connects. Each connection is checked here when it is made.
"""

import asyncio
import base64
import hmac
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed

_HEAD_BYTES = 2**16
_PATIENCE_SECONDS = 10.0
_BLOCK = 2**18
_CREDENTIALS = re.compile(rb"\r\nproxy-authorization: *basic ([A-Za-z0-9+/=]+)(?=\r\n)", re.IGNORECASE)

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def tunnel(allowed: Allowed) -> AsyncIterator[str]:
    """The proxy's URL while the block lasts; it has a password, so that nobody else on the node can use it."""
    password = secrets.token_hex(16)
    expected = base64.b64encode(f"lateen:{password}".encode())
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await _serve((reader, writer), allowed, expected)
        except asyncio.CancelledError:
            return  # the block has ended; the server's own callback would log it as an error
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_HEAD_BYTES)
    try:
        yield f"http://lateen:{password}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _serve(client: _Streams, allowed: Allowed, expected: bytes) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            head = await client[0].readuntil(b"\r\n\r\n")
            found = _CREDENTIALS.search(head)
            if found is None or not hmac.compare_digest(found[1], expected):
                return _answer(client, "407 Proxy Authentication Required")
            method, target, _ = head.split(b" ", 2)
            tls = method == b"CONNECT"
            upstream = await _connect(target.decode("ascii"), allowed, tls=tls)
    except (addresses.Forbidden, ValueError):
        return _answer(client, "403 Forbidden")
    except (addresses.Unresolved, OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
        return _answer(client, "502 Bad Gateway")
    try:
        if tls:
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            upstream[1].write(_CREDENTIALS.sub(b"", head))
        await _join(client, upstream)
    finally:
        upstream[1].close()
    return None


async def _connect(target: str, allowed: Allowed, *, tls: bool) -> _Streams:
    """A connection to `host:port`, or for plain http to the host of an absolute address."""
    parts = urlsplit(f"//{target}" if tls else target)
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    if not tls and not (parts.scheme == "http" and allowed.plain(host, port)):
        raise addresses.Forbidden(f"{host} may not be spoken with without TLS")
    first, *_ = await addresses.resolve(host, port, allowed)
    return await asyncio.open_connection(str(first), port)


async def _join(client: _Streams, upstream: _Streams) -> None:
    """Carry bytes both ways until one side ends."""
    ways = [
        asyncio.create_task(_carry(client[0], upstream[1])),
        asyncio.create_task(_carry(upstream[0], client[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK):
        writer.write(block)
        await writer.drain()


def _answer(client: _Streams, status: str) -> None:
    client[1].write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
