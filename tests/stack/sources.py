# SPDX-License-Identifier: Apache-2.0
"""Real servers that weights come from, on loopback: rclone's S3 and distribution's OCI registry. Started by tests."""

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from lateen_cli import tools
from stack.waiting import wait_for

KEY, SECRET = "test-key-id", "test-secret-value"
LOGIN = ("puller", "U*U")
_HTPASSWD = "puller:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n"
"""The bcrypt hash of `U*U` that every implementation is tested with."""

_REGISTRY = """version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: 127.0.0.1:{port}, secret: test}}
auth: {{htpasswd: {{realm: test, path: {passwords}}}}}
"""


@dataclass(frozen=True)
class Server:
    """One that runs."""

    port: int
    folder: Path
    """What it serves or keeps."""
    log: Path

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def s3(folder: Path, port: int | None = None) -> Iterator[Server]:
    """`rclone serve s3`: each folder of `folder/data` is a bucket."""
    server = _server(folder, port)
    command = [_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{server.port}"]
    command += [
        "--auth-key",
        f"{KEY},{SECRET}",
        "--config",
        "/dev/null",
        "--dir-cache-time",
        "0s",
        str(server.folder),
    ]
    with _running(command, server):
        yield server


@contextmanager
def registry(folder: Path) -> Iterator[Server]:
    """`registry serve`, which asks everybody for the login."""
    server = _server(folder)
    passwords, config = folder / "htpasswd", folder / "registry.yaml"
    passwords.write_text(_HTPASSWD)
    config.write_text(_REGISTRY.format(root=server.folder, port=server.port, passwords=passwords))
    with _running([_program("registry"), "serve", str(config)], server):
        yield server


def push(server: Server, name: str, tag: str, files: Mapping[str, bytes]) -> str:
    """Store files as an artifact, as `oras push` does; the manifest's digest."""
    with httpx.Client(base_url=server.address, auth=LOGIN, timeout=60, trust_env=False) as http:
        layers = []
        for title, data in files.items():
            notes = {"org.opencontainers.image.title": title}
            layers.append({**_blob(http, name, data, "application/octet-stream"), "annotations": notes})
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.test.model",
            "config": _blob(http, name, b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": layers,
        }
        reply = http.put(
            f"/v2/{name}/manifests/{tag}",
            content=json.dumps(manifest).encode(),
            headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        )
        reply.raise_for_status()
        return str(reply.headers["docker-content-digest"])


def _blob(http: httpx.Client, name: str, data: bytes, media: str) -> dict[str, str | int]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    started = http.post(f"/v2/{name}/blobs/uploads/")
    started.raise_for_status()
    place = httpx.URL(started.headers["location"]).copy_add_param("digest", digest)
    http.put(place, content=data, headers={"Content-Type": "application/octet-stream"}).raise_for_status()
    return {"mediaType": media, "digest": digest, "size": len(data)}


def _server(folder: Path, port: int | None = None) -> Server:
    (folder / "data").mkdir(parents=True)
    return Server(port or free_port(), folder / "data", folder / "log")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    found = tools.find(name, os.environ)
    assert found is not None, f"{name} is missing; run: python3 hack/tools {name}"
    return str(found)


@contextmanager
def _running(command: list[str], server: Server) -> Iterator[None]:
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def answers() -> bool:
        assert process.poll() is None, server.log.read_text()
        try:
            httpx.get(server.address, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    try:
        wait_for(answers, 30, lambda: f"{command[0]} does not answer: {server.log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(10)
