# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback whose pages have entity tags. Started by tests."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack import http_server

_BLOCK = b"x" * (1 << 16)


@dataclass(frozen=True)
class Moved:
    """An answer: the page is at another path."""

    to: str


@dataclass(frozen=True)
class Huge:
    """An answer: as many bytes as the client takes of a gibibyte."""

    told: bool
    """Whether the length is said beforehand."""


@dataclass
class WebServer:
    """One that runs; `pages` may change."""

    pages: dict[str, str | Moved | Huge]
    """What is answered by path, mostly text; `.md` is Markdown, everything else HTML."""

    sent: list[str] = field(default_factory=list)
    """Paths of pages that were sent whole."""

    port: int = 0

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(pages: Mapping[str, str | Moved | Huge]) -> Iterator[WebServer]:
    """The server while the block lasts."""
    made = WebServer(dict(pages))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    made.port = server.server_port
    with http_server.running(server):
        yield made


def _handler(site: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = site.pages.get(self.path)
            if isinstance(text, Moved | Huge):
                self._special(text)
                return
            tag = f'"{hashlib.sha256((text or "").encode()).hexdigest()[:16]}"'
            if text is None or self.headers.get("if-none-match") == tag:
                self._reply(404 if text is None else 304, b"", tag)
            else:
                site.sent.append(self.path)
                self._reply(200, text.encode(), tag)

        def _special(self, answer: Moved | Huge) -> None:
            self.send_response(302 if isinstance(answer, Moved) else 200)
            if isinstance(answer, Moved):
                self.send_header("Location", answer.to)
            elif answer.told:
                self.send_header("Content-Length", str(1 << 30))
            self.end_headers()
            if isinstance(answer, Huge):
                with suppress(ConnectionError):  # the client has seen enough
                    for _ in range((1 << 30) // len(_BLOCK)):
                        self.wfile.write(_BLOCK)

        def _reply(self, status: int, body: bytes, tag: str) -> None:
            self.send_response(status)
            kind = "text/markdown" if self.path.endswith(".md") else "text/html"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Silent: `sent` is the log."""

    return Handler
