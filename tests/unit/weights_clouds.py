# SPDX-License-Identifier: Apache-2.0
"""Servers on loopback that answer as Google Cloud Storage and Azure Blob Storage do, as far as a reader asks them.

Of Google it is the XML API: that is what obstore speaks. Credentials are checked as the real ones do, signatures too.
"""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ACCOUNT = "tinyaccount"
ACCOUNT_KEY = base64.b64encode(b"an account's key of 32 bytes ...").decode()
SAS = "sv=2023-11-03&sp=rl&sig=c2VjcmV0%3D"
EMAIL = "reader@project.example"
DATE = "Tue, 24 Nov 2026 08:00:00 GMT"
STAMP = "2026-11-24T08:00:00.000Z"
SIGNED = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range",
)  # fmt: skip
"""Headers of Azure's string to sign, in its order."""


class Cloud(ThreadingHTTPServer):
    """A store with one bucket; listings have pages of one object."""

    def __init__(self, bucket: str, objects: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bucket, self.objects = bucket, objects
        self.cut: set[str] = set()
        """Objects whose next whole download breaks off in the middle."""
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.server_port}"

    def knows(self, request: "_Handler") -> bool:
        """Whether the request may read."""
        raise NotImplementedError

    def page(self, query: dict[str, str]) -> bytes:
        """A page of a listing."""
        raise NotImplementedError

    def chosen(self, query: dict[str, str], marker: str) -> tuple[str | None, str]:
        """The name on the page that the marker means, and the marker of the next one."""
        names = sorted(name for name in self.objects if name.startswith(query.get("prefix", "")))
        at = int(query.get(marker, "0"))
        return (names[at] if at < len(names) else None), (str(at + 1) if at + 1 < len(names) else "")


class Google(Cloud):
    """Reads a service account's self-signed token; `public` buckets ask for nothing, and take no wrong one."""

    def __init__(self, bucket: str, objects: dict[str, bytes], *, public: bool = False) -> None:
        super().__init__(bucket, objects)
        self.public = public
        self._key = rsa.generate_private_key(65537, 2048)

    def account(self, email: str = EMAIL, key: rsa.RSAPrivateKey | None = None) -> str:
        """The JSON key of a service account."""
        form, coding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
        pem = (key or self._key).private_bytes(coding, form, serialization.NoEncryption()).decode()
        return json.dumps(
            {"type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": pem,
             "client_email": email, "token_uri": "https://oauth2.example/token"}
        )  # fmt: skip

    def knows(self, request: "_Handler") -> bool:
        given = request.headers.get("authorization", "")
        if not given:
            return self.public
        head, body, signature = given.removeprefix("Bearer ").split(".")
        try:
            self._key.public_key().verify(
                _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return False
        return bool(json.loads(_decoded(body))["iss"] == EMAIL)

    def page(self, query: dict[str, str]) -> bytes:
        assert query["list-type"] == "2"
        name, following = self.chosen(query, "continuation-token")
        more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
        item = "" if name is None else (
            f"<Contents><Key>{name}</Key><LastModified>{STAMP}</LastModified>"
            f"<ETag>{_tag(self.objects[name])}</ETag><Size>{len(self.objects[name])}</Size></Contents>"
        )  # fmt: skip
        return f"<ListBucketResult>{more}{item}</ListBucketResult>".encode()


class Azure(Cloud):
    """Takes the account's key, by the signature made with it, or the shared access signature; nothing else."""

    def knows(self, request: "_Handler") -> bool:
        given = request.headers.get("authorization", "")
        if given:
            return hmac.compare_digest(given, f"SharedKey {ACCOUNT}:{_shared_key(request)}")
        query = dict(parse_qsl(urlsplit(request.path).query))
        return dict(parse_qsl(SAS)).items() <= query.items()

    def page(self, query: dict[str, str]) -> bytes:
        assert (query["restype"], query["comp"]) == ("container", "list")
        name, following = self.chosen(query, "marker")
        item = "" if name is None else (
            f"<Blob><Name>{name}</Name><Properties><Last-Modified>{DATE}</Last-Modified>"
            f"<Etag>{_tag(self.objects[name])}</Etag><Content-Length>{len(self.objects[name])}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
        )  # fmt: skip
        return f"<EnumerationResults><Blobs>{item}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>".encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        """A listing, an object or a part of one."""
        parts = urlsplit(self.path)
        self.server.asked.append(
            f"{self.command} {unquote(parts.path)} {self.headers.get('range', '')}".strip()
        )
        bucket, _, name = unquote(parts.path).removeprefix("/").partition("/")
        if not self.server.knows(self):
            self._reply(401)
        elif bucket != self.server.bucket or (name and name not in self.server.objects):
            self._reply(404)
        elif name:
            self._object(name, self.server.objects[name])
        else:
            self._reply(200, self.server.page(dict(parse_qsl(parts.query))))

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _object(self, name: str, data: bytes) -> None:
        more = {"ETag": _tag(data), "Last-Modified": DATE}
        first, given = 0, self.headers.get("range")
        if given:
            low, _, high = given.removeprefix("bytes=").partition("-")
            first, last = int(low), min(int(high or len(data) - 1), len(data) - 1)
            more["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data = data[first : last + 1]
        sent = data
        if self.command == "GET" and not given and name in self.server.cut:
            self.server.cut.remove(name)
            sent, self.close_connection = data[: len(data) // 2], True
        self._reply(206 if given else 200, data, more, sent)

    def _reply(
        self, status: int, data: bytes = b"", more: dict[str, str] | None = None, sent: bytes | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data if sent is None else sent)

    def log_message(self, *args: Any) -> None:
        """Silent: `asked` is the log."""


@contextmanager
def running(cloud: Cloud) -> Iterator[Cloud]:
    """The server while the block lasts."""
    thread = threading.Thread(target=cloud.serve_forever, kwargs={"poll_interval": 0.05})
    with cloud:
        thread.start()
        try:
            yield cloud
        finally:
            cloud.shutdown()
            thread.join()


def _shared_key(request: BaseHTTPRequestHandler) -> str:
    """The signature that Azure computes of a request, after its documentation of SharedKey."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    if headers.get("content-length") == "0":
        del headers["content-length"]
    parts = urlsplit(request.path)
    lines = [request.command, *(headers.get(name, "") for name in SIGNED)]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
    lines += [
        f"/{ACCOUNT}{parts.path}",
        *(f"{name}:{value}" for name, value in sorted(parse_qsl(parts.query))),
    ]
    key = base64.b64decode(ACCOUNT_KEY)
    return base64.b64encode(hmac.digest(key, "\n".join(lines).encode(), hashlib.sha256)).decode()


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
