# SPDX-License-Identifier: Apache-2.0
"""The proxy that checks addresses when a connection is made."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.tunnel import tunnel


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server on loopback that answers `ok` and what it was sent first."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ok " + await reader.read(1000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def ask(proxy: str, head: str, then: bytes = b"") -> bytes:
    """What the proxy answers to a request with its password, and to what follows a tunnel's beginning."""
    parts = urlsplit(proxy)
    login = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    writer.write(head.replace("LOGIN", f"Proxy-Authorization: Basic {login}").encode())
    answer = b""
    if then:
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
    answer += await reader.read()
    writer.close()
    return answer


async def test_an_allowed_host_is_reached(echo: int) -> None:
    """Through a tunnel for TLS, or by passing a plain request on without the password."""
    allowed = Allowed.of([f"http://127.0.0.1:{echo}"])
    async with tunnel(allowed) as proxy:
        found = await ask(proxy, f"CONNECT 127.0.0.1:{echo} HTTP/1.1\r\nLOGIN\r\n\r\n", b"hello")
        assert found.endswith(b"ok hello")
        found = await ask(proxy, f"GET http://127.0.0.1:{echo}/x HTTP/1.1\r\nLOGIN\r\nA: b\r\n\r\n")
        assert found == f"ok GET http://127.0.0.1:{echo}/x HTTP/1.1\r\nA: b\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("CONNECT 127.0.0.1:PORT HTTP/1.1\r\nLOGIN\r\n\r\n", b"403"),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\nLOGIN\r\n\r\n", b"403"),
        ("GET http://127.0.0.1:PORT/ HTTP/1.1\r\nLOGIN\r\n\r\n", b"403"),
        ("GET http://93.184.216.34/ HTTP/1.1\r\nLOGIN\r\n\r\n", b"403"),
        ("GET /etc/passwd HTTP/1.1\r\nLOGIN\r\n\r\n", b"403"),
        ("CONNECT 127.0.0.1:99999 HTTP/1.1\r\nLOGIN\r\n\r\n", b"403"),
        ("CONNECT 127.0.0.1:PORT HTTP/1.1\r\n\r\n", b"407"),
        ("CONNECT 127.0.0.1:PORT HTTP/1.1\r\nProxy-Authorization: Basic eDp5\r\n\r\n", b"407"),
    ],
)
async def test_everything_else_is_refused(echo: int, head: str, status: bytes) -> None:
    """Private and metadata addresses, plain http, nonsense, and callers without the password."""
    async with tunnel(Allowed()) as proxy:
        assert (await ask(proxy, head.replace("PORT", str(echo)))).startswith(b"HTTP/1.1 " + status)


async def test_it_ends_with_its_block(echo: int) -> None:
    """Connections that are open then are cut, and no new one is taken."""
    async with tunnel(Allowed()) as proxy:
        port = urlsplit(proxy).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"CONNECT")
        await writer.drain()
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)
