# SPDX-License-Identifier: Apache-2.0
"""Git's own HTTP server on loopback, with TLS and a login. Started by tests."""

import base64
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lateen_cli import credentials
from lateen_cli.credentials import Pki
from stack import http_server

LOGIN = ("reader", "correct horse")


@dataclass
class GitServer:
    """One that runs."""

    address: str
    """`https://127.0.0.1:PORT`."""

    authority: Path
    """Certificate by which its own is verified."""

    asked: list[str] = field(default_factory=list)
    """Paths and queries, in order."""


@contextmanager
def serving(repositories: Path, folder: Path, *, private: bool = True) -> Iterator[GitServer]:
    """Serve the repositories below a folder; `private` ones to `LOGIN` alone. `folder` is for certificates."""
    pki = Pki(folder)
    for path, content in credentials.certificates(pki).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repositories, private))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki.server)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made = GitServer(f"https://127.0.0.1:{server.server_port}", pki.authority)
    server.asked = made.asked  # type: ignore[attr-defined]
    with http_server.running(server):
        yield made


def _handler(repositories: Path, private: bool) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            if private and self.headers.get("authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._answer(_cgi(repositories, self))

        def do_POST(self) -> None:
            self.do_GET()

        def _answer(self, printed: bytes) -> None:
            head, _, body = printed.partition(b"\r\n\r\n")
            headers = [line.split(": ", 1) for line in head.decode().split("\r\n")]
            status = next((value.split()[0] for name, value in headers if name == "Status"), "200")
            self.send_response(int(status))
            for name, value in headers:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Silent."""

    return Handler


def _cgi(repositories: Path, request: BaseHTTPRequestHandler) -> bytes:
    parts = urlsplit(request.path)
    body = request.rfile.read(int(request.headers.get("content-length", 0)))
    environment = {
        **os.environ,
        "GIT_PROJECT_ROOT": str(repositories),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "PATH_INFO": parts.path,
        "QUERY_STRING": parts.query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_USER": LOGIN[0],
    }
    return subprocess.run(
        ["git", "http-backend"], input=body, env=environment, capture_output=True, check=True
    ).stdout
