# SPDX-License-Identifier: Apache-2.0
"""Weights from a hub: the hub's real client against a small HTTP server that answers as the hub does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import source

COMMIT = "0123456789" * 4
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"w" * 3_000_000,
    "pytorch_model.bin": b"p",
    "README.md": b"r",
}
TOKEN = "hf_very_secret"


class Hub(ThreadingHTTPServer):
    """One gated repository `org/name`; keeps what was asked and, where told, says too small sizes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.stated: int | None = None
        """Size that the list of files gives for each; None: the true one."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Facts of the repository, its list of files, or one of them."""
        self._answer()

    def do_HEAD(self) -> None:
        """The same without a body."""
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base
        """The test's output stays clean."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._send(401, b"{}")
        if path.startswith("/api/models/org/name/tree/"):
            return self._send(200, json.dumps(self._tree()).encode())
        if path.startswith("/api/models/org/name"):
            siblings = [{"rfilename": item["path"], "size": item["size"]} for item in self._tree()]
            facts = {"id": "org/name", "modelId": "org/name", "sha": COMMIT, "siblings": siblings}
            return self._send(200, json.dumps(facts).encode())
        content = FILES.get(path.removeprefix(f"/org/name/resolve/{COMMIT}/"))
        return self._send(404, b"{}") if content is None else self._send(200, content)

    def _tree(self) -> list[dict[str, str | int]]:
        stated = self.server.stated
        return [
            {"type": "file", "oid": _tag(data), "path": name, "size": len(data) if stated is None else stated}
            for name, data in FILES.items()
        ]

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_tag(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _tag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, which this process and its children use."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)
        for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    """A node with the hub's token in the Secret `team/hub`."""
    (tmp_path / "secrets" / "team" / "hub").mkdir(parents=True)
    (tmp_path / "secrets" / "team" / "hub" / "token").write_text(TOKEN)
    return ServingSettings(secrets=tmp_path / "secrets", model_cache=tmp_path / "cache")


WEIGHTS = WeightsArguments(uri="hf://org/name@main", secret="team/hub")


async def test_a_repository_is_fetched_with_the_secret(hub: Hub, settings: ServingSettings) -> None:
    """Only the model's files are asked for, as one commit; the second start fetches nothing."""
    folder = await source.resolve(WEIGHTS, settings)
    assert {path.name: path.read_bytes() for path in folder.glob("[!.]*")} == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }
    fetched = [line for line in hub.asked if line.startswith("GET /org/name/resolve/")]
    assert sorted(fetched) == [
        f"GET /org/name/resolve/{COMMIT}/{name}" for name in ("config.json", "model.safetensors")
    ]
    assert await source.resolve(WEIGHTS, settings) == folder
    assert [line for line in hub.asked if line.startswith("GET /org/name/resolve/")] == fetched


async def test_a_repository_that_wants_a_token(hub: Hub, settings: ServingSettings) -> None:
    """Without the Secret it is SourceUnauthorized, and nothing is left."""
    with pytest.raises(LoadError) as caught:
        await source.resolve(WeightsArguments(uri="hf://org/name"), settings)
    assert caught.value.code == "SourceUnauthorized"
    assert not list((settings.model_cache / "entries").iterdir())


async def test_a_repository_that_is_larger_than_it_says(hub: Hub, settings: ServingSettings) -> None:
    """What is written counts, not what was announced: the download ends as CacheFull and leaves nothing."""
    hub.stated = 10
    small = settings.model_copy(update={"model_cache_bytes": 1_000_000})
    with pytest.raises(LoadError, match="LATEEN_MODEL_CACHE_BYTES") as caught:
        await source.resolve(WEIGHTS, small)
    assert caught.value.code == "CacheFull"
    assert not list((settings.model_cache / "scratch").iterdir())
    assert not list((settings.model_cache / "entries").iterdir())


async def test_a_secret_without_a_token(hub: Hub, settings: ServingSettings) -> None:
    """The node's own identity never stands in for a Secret that lacks the key: the error names what is missing."""
    (settings.secrets / "team" / "hub" / "token").unlink()
    with pytest.raises(LoadError, match="no key 'token'") as caught:
        await source.resolve(WEIGHTS, settings)
    assert caught.value.code == "SourceUnauthorized"
    assert hub.asked == []
