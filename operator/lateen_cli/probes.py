# SPDX-License-Identifier: Apache-2.0
"""Asking a part over HTTP whether it is ready; used by the supervisor until the answer is yes.

The standard library's client: it follows no proxy settings, and nothing else needs one here.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

POLL = 0.2
"""Seconds between two questions."""

TIMEOUT = 3.0
"""Seconds one question may take."""


@dataclass(frozen=True)
class Probe:
    """`GET path` on a loopback port; ready means status 200 and, where given, `contains` in the body."""

    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: Path | None = None
    certificate: tuple[Path, Path] | None = None
    contains: bytes = b""


async def ready(probe: Probe) -> bool:
    """One question; False for any answer but the right one, and for none."""
    return await asyncio.to_thread(_ask, probe)


async def until_ready(probe: Probe, patience: float) -> None:
    """Ask until the answer is yes; TimeoutError after `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            while not await ready(probe):  # noqa: ASYNC110  # another process tells by HTTP only
                await asyncio.sleep(POLL)
    except TimeoutError as error:
        raise TimeoutError(f"no answer on port {probe.port} within {patience:.0f} s") from error


def _ask(probe: Probe) -> bool:
    connection = _connection(probe)
    try:
        connection.request("GET", probe.path, headers=dict(probe.headers))
        answer = connection.getresponse()
        return answer.status == 200 and probe.contains in answer.read(65536)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _connection(probe: Probe) -> HTTPConnection:
    if probe.authority is None:
        return HTTPConnection("127.0.0.1", probe.port, timeout=TIMEOUT)
    context = ssl.create_default_context(cafile=str(probe.authority))
    if probe.certificate:
        context.load_cert_chain(*probe.certificate)
    return HTTPSConnection("127.0.0.1", probe.port, timeout=TIMEOUT, context=context)
