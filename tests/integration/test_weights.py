# SPDX-License-Identifier: Apache-2.0
"""Weights from a real S3 server and a real OCI registry; needs no stack."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lateen_api import digests
from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import source
from stack import sources
from stack.sources import Server
from stack.waiting import wait_for

FILES = {"config.json": b"{}", "model.safetensors": os.urandom(3_000_000), "tokenizer.json": b"[]"}
LARGE = 400 * 2**20
LOADER = """
import asyncio, json, resource, sys
from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import source
weights, limit = json.loads(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    folder = asyncio.run(source.resolve(WeightsArguments.model_validate(weights), ServingSettings()))
    print(json.dumps({"folder": str(folder)}))
except LoadError as error:
    print(json.dumps({"code": error.code, "message": error.message}))
"""


@dataclass(frozen=True)
class World:
    """A node: its settings, and the servers it may reach."""

    settings: ServingSettings
    base: Path

    def secret(self, name: str, **values: str) -> str:
        """Mount a Secret of namespace `team`."""
        folder = self.settings.secrets / "team" / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / key).write_text(f"{value}\n")
        return f"team/{name}"

    async def load(self, uri: str, **more: Any) -> dict[str, bytes]:
        """What the resolved folder holds."""
        return files(await source.resolve(WeightsArguments(uri=uri, **more), self.settings))

    async def failing(self, uri: str, **more: Any) -> LoadError:
        """The error; it never holds a Secret's value, nor does it leave something behind."""
        with pytest.raises(LoadError) as caught:
            await self.load(uri, **more)
        assert sources.SECRET not in caught.value.message
        return caught.value

    def start(self, uri: str, limit: int = 0, **more: Any) -> subprocess.Popen[str]:
        """A replica's process that resolves; `limit` bounds the files it can write."""
        environment = {
            **os.environ,
            "LATEEN_MODEL_CACHE": str(self.settings.model_cache),
            "LATEEN_SECRETS": str(self.settings.secrets),
            "LATEEN_SOURCE_HOSTS": json.dumps(self.settings.source_hosts),
        }
        arguments = json.dumps({"uri": uri, **more})
        return subprocess.Popen(
            [sys.executable, "-c", LOADER, arguments, str(limit)], stdout=subprocess.PIPE, text=True, env=environment
        )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    """Content by name."""
    found = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def answer(process: subprocess.Popen[str]) -> dict[str, str]:
    """What a replica's process printed."""
    printed, _ = process.communicate(timeout=120)
    found: dict[str, str] = json.loads(printed.splitlines()[-1])
    return found


def put(server: Server, bucket: str, content: dict[str, bytes]) -> None:
    """Objects of a bucket."""
    for name, data in content.items():
        path = server.folder / bucket / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server with the bucket `models`."""
    with sources.s3(tmp_path_factory.mktemp("s3")) as server:
        put(server, "models", {f"tiny/{name}": data for name, data in FILES.items()})
        put(
            server,
            "models",
            {"tiny/README.md": b"r", "tiny/onnx/model.safetensors": b"o", "pickled/x.bin": b"p"},
        )
        yield server


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An OCI registry with the artifact `team/tiny:v1`."""
    with sources.registry(tmp_path_factory.mktemp("registry")) as server:
        sources.push(server, "team/tiny", "v1", FILES)
        yield server


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A node that may reach no private host; failures are not waited for."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.01)
    settings = ServingSettings(secrets=tmp_path / "secrets", model_cache=tmp_path / "cache")
    return World(settings, tmp_path)


@pytest.fixture
def with_s3(world: World, s3: Server) -> World:
    """A node that may reach the S3 server."""
    world.secret(
        "s3", access_key_id=sources.KEY, secret_access_key=sources.SECRET, endpoint=s3.address, allow_http="true",
        region="us-east-1",
    )  # fmt: skip
    return replace(world, settings=world.settings.model_copy(update={"source_hosts": [s3.address]}))


@pytest.fixture
def with_registry(world: World, registry: Server) -> World:
    """A node that may reach the registry."""
    world.secret("login", username=sources.LOGIN[0], password=sources.LOGIN[1])
    return replace(world, settings=world.settings.model_copy(update={"source_hosts": [registry.address]}))


def artifact(server: Server, reference: str = ":v1") -> str:
    """The uri of `team/tiny`."""
    return f"oci://127.0.0.1:{server.port}/team/tiny{reference}"


async def test_a_model_in_a_bucket(with_s3: World) -> None:
    """Only the model's files are fetched, and the digest of the folder is the one that is printed for it."""
    assert await with_s3.load("s3://models/tiny", secret="team/s3") == FILES
    folder = await source.resolve(
        WeightsArguments(uri="s3://models/tiny", secret="team/s3"), with_s3.settings
    )
    digest = digests.of_folder(folder)
    assert await with_s3.load("s3://models/tiny", secret="team/s3", digest=digest) == FILES
    error = await with_s3.failing("s3://models/tiny", secret="team/s3", digest=f"sha256:{'0' * 64}")
    assert error.code == "DigestMismatch"
    assert not list((with_s3.settings.model_cache / "scratch").iterdir())


async def test_a_bucket_that_says_no(with_s3: World, s3: Server) -> None:
    """Wrong keys, missing folders and pickles are told apart."""
    with_s3.secret(
        "wrong", access_key_id="nobody", secret_access_key="x", endpoint=s3.address, allow_http="true"
    )
    for uri, secret, code in (
        ("s3://models/tiny", "team/wrong", "SourceUnauthorized"),
        ("s3://models/absent", "team/s3", "SourceNotFound"),
        ("s3://absent/tiny", "team/s3", "SourceNotFound"),
        ("s3://models/pickled", "team/s3", "SourceRefused"),
        ("s3://models/absent.gguf", "team/s3", "SourceNotFound"),
    ):
        assert (await with_s3.failing(uri, secret=secret)).code == code, uri


async def test_an_endpoint_needs_permission(world: World, s3: Server) -> None:
    """A Secret can't point the node at a private host or at its metadata, and an endpoint gets no identity of the node."""
    world.secret("s3", access_key_id="a", secret_access_key="b", endpoint=s3.address, allow_http="true")
    world.secret("tls", access_key_id="a", secret_access_key="b", endpoint=f"https://127.0.0.1:{s3.port}")
    world.secret("meta", access_key_id="a", secret_access_key="b", endpoint="https://169.254.169.254")
    world.secret("lend", endpoint="https://93.184.216.34")
    world.secret("file", web_identity_token_file="/etc/passwd")
    for name in ("s3", "tls", "meta", "file"):
        assert (await world.failing("s3://models/tiny", secret=f"team/{name}")).code == "SourceRefused", name
    assert (await world.failing("s3://models/tiny", secret="team/lend")).code == "SourceUnauthorized"


async def test_the_cache_serves_what_the_store_can_not(with_s3: World, tmp_path: Path) -> None:
    """A replica starts while its store is down if an earlier one has fetched; another Secret is no way around."""
    with sources.s3(tmp_path / "second") as server:
        settings = with_s3.settings.model_copy(update={"source_hosts": [server.address]})
        world = replace(with_s3, settings=settings)
        for name in ("mine", "other"):
            world.secret(name, access_key_id=sources.KEY, secret_access_key=sources.SECRET, allow_http="true")
            world.secret(name, endpoint=server.address, region="us-east-1")
        put(server, "models", {f"tiny/{name}": data for name, data in FILES.items()})
        assert await world.load("s3://models/tiny", secret="team/mine") == FILES
    assert await world.load("s3://models/tiny", secret="team/mine") == FILES
    assert (await world.failing("s3://models/tiny", secret="team/other")).code == "SourceUnavailable"


def test_a_killed_download_is_taken_up(with_s3: World, s3: Server) -> None:
    """SIGKILL in the middle: nothing half is ever seen, the next process keeps complete files and ends the rest."""
    put(s3, "models", {"large/config.json": b"{}"})
    weights = s3.folder / "models" / "large" / "model.safetensors"
    with weights.open("wb") as file:
        file.truncate(LARGE)
    cache = with_s3.settings.model_cache
    process = with_s3.start("s3://models/large", secret="team/s3")

    def under_way() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the download ended: {process.communicate()}")
        parts = list(cache.glob("scratch/*/.model.safetensors.part"))
        return any(path.stat().st_size for path in parts) and bool(list(cache.glob("scratch/*/config.json")))

    wait_for(under_way, 60, "no download is under way", interval=0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert not list(cache.glob("entries/*"))
    (kept,) = cache.glob("scratch/*/config.json")
    number = kept.stat().st_ino
    folder = Path(answer(with_s3.start("s3://models/large", secret="team/s3"))["folder"])
    assert (folder / "config.json").stat().st_ino == number
    assert (folder / "model.safetensors").stat().st_size == LARGE
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["config.json", "model.safetensors"]
    assert not list(cache.glob("scratch/*"))


def test_a_disk_that_fills_up(with_s3: World) -> None:
    """The write that fails becomes CacheFull with the place, and what was written is removed."""
    found = answer(with_s3.start("s3://models/tiny", limit=1_000_000, secret="team/s3"))
    assert found["code"] == "CacheFull"
    assert str(with_s3.settings.model_cache) in found["message"]
    assert not list(with_s3.settings.model_cache.glob("scratch/*"))
    assert "folder" in answer(with_s3.start("s3://models/tiny", secret="team/s3"))


async def test_an_artifact_of_a_registry(with_registry: World, registry: Server) -> None:
    """By tag and by digest; a digest that is in the cache needs no registry."""
    assert await with_registry.load(artifact(registry), secret="team/login") == FILES
    digest = sources.push(registry, "team/tiny", "v2", {**FILES, "config.json": b'{"v": 2}'})
    found = await with_registry.load(artifact(registry, f"@{digest}"), secret="team/login")
    assert found["config.json"] == b'{"v": 2}'
    before = registry.log.read_text().count("GET /v2/")
    assert await with_registry.load(artifact(registry, f"@{digest}"), secret="team/login") == found
    assert registry.log.read_text().count("GET /v2/") == before


async def test_a_registry_that_says_no(with_registry: World, registry: Server) -> None:
    """No login, a wrong one and a missing tag are told apart; without permission it is not asked at all."""
    with_registry.secret("wrong", username="puller", password="nonsense")
    for reference, more, code in (
        (":v1", {}, "SourceUnauthorized"),
        (":v1", {"secret": "team/wrong"}, "SourceUnauthorized"),
        (":absent", {"secret": "team/login"}, "SourceNotFound"),
    ):
        assert (await with_registry.failing(artifact(registry, reference), **more)).code == code
    alone = replace(with_registry, settings=with_registry.settings.model_copy(update={"source_hosts": []}))
    assert (await alone.failing(artifact(registry), secret="team/login")).code == "SourceRefused"


def test_replicas_that_start_together_fetch_once(with_registry: World, registry: Server) -> None:
    """Four processes at once get the same folder, and each layer leaves the registry once."""
    content = {"config.json": b"{}", "model.safetensors": os.urandom(20_000_000)}
    sources.push(registry, "team/shared", "v1", content)
    uri = f"oci://127.0.0.1:{registry.port}/team/shared:v1"
    replicas = [with_registry.start(uri, secret="team/login") for _ in range(4)]
    folders = {answer(replica)["folder"] for replica in replicas}
    assert len(folders) == 1
    assert files(Path(folders.pop())) == content
    lines = [line for line in registry.log.read_text().splitlines() if '"GET /v2/team/shared/blobs/' in line]
    assert sum('" 200 ' in line for line in lines) == len(content)
