# SPDX-License-Identifier: Apache-2.0
"""Where weights may come from, and what is refused."""

from pathlib import Path

import httpx
import pytest
from huggingface_hub import errors as hub

from lateen_api import digests
from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.outbound.credentials import NONE, Credentials
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import hub as hub_module
from lateen_serving.weights import source, uris


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    """Volumes with one claim, one allowed root, and a secret outside of both."""
    for folder in ("volumes/models", "allowed", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    return ServingSettings(
        volumes=tmp_path / "volumes",
        file_roots=[tmp_path / "allowed"],
        secrets=tmp_path / "secrets",
        model_cache=tmp_path / "cache",
    )


def model(folder: Path, *names: str) -> Path:
    """A folder with empty files."""
    for name in names or ("config.json", "model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("hf://org/name", uris.HubSource("org/name", None)),
        ("hf://org/name@v1.0", uris.HubSource("org/name", "v1.0")),
        ("hf://org/name@refs/pr/1", uris.HubSource("org/name", "refs/pr/1")),
        ("pvc://models/a/b", ("volume", "volumes/models", "volumes/models/a/b")),
        ("pvc://models", ("volume", "volumes/models", "volumes/models")),
        ("file://{root}/allowed/m", ("file", "allowed", "allowed/m")),
        ("hf://name", "SourceRefused"),
        ("hf://org/../name", "SourceRefused"),
        ("hf://org/name@", "SourceRefused"),
        ("pvc://models/../outside", "SourceRefused"),
        ("pvc:///x", "SourceRefused"),
        ("pvc://UP/x", "SourceRefused"),
        ("pvc://../outside", "SourceRefused"),
        ("pvc://models/a\0b", "SourceRefused"),
        ("file://{root}/outside/m", "SourceRefused"),
        ("file://{root}/allowed/../outside", "SourceRefused"),
        ("file://relative/path", "SourceRefused"),
        ("s3://bucket/a/b/", uris.BucketSource("s3", "bucket", "a/b")),
        ("gs://bucket/m", uris.BucketSource("gs", "bucket", "m")),
        ("az://container/m", uris.BucketSource("az", "container", "m")),
        ("https://h:8443/m.tar.gz", uris.WebSource("https://h:8443/m.tar.gz", "archive")),
        ("https://h/m.zip?sig=x", uris.WebSource("https://h/m.zip?sig=x", "archive")),
        ("https://h/m/files.txt", uris.WebSource("https://h/m/files.txt", "list")),
        ("https://h/m.gguf", uris.WebSource("https://h/m.gguf", "file")),
        ("oci://h:5000/a/b:v1", uris.RegistrySource("h:5000", "a/b", "v1")),
        ("oci://h/a", uris.RegistrySource("h", "a", "latest")),
        (f"oci://h/a@sha256:{'0' * 64}", uris.RegistrySource("h", "a", f"sha256:{'0' * 64}")),
        ("s3://bucket/", "SourceRefused"),
        ("s3://bucket/a/../b", "SourceRefused"),
        ("https://user:word@h/m.zip", "SourceRefused"),
        ("https://h/model", "SourceRefused"),
        ("http://h/m.zip", "SourceRefused"),
        ("oci://h/A:v1", "SourceRefused"),
        ("oci://h/a@sha256:12", "SourceRefused"),
        ("ftp://h/m.zip", "SourceRefused"),
        ("just text", "SourceRefused"),
    ],
)
def test_what_a_uri_means(settings: ServingSettings, tmp_path: Path, uri: str, expected: object) -> None:
    """Each scheme is read strictly, before anything is opened."""
    uri = uri.replace("{root}", str(tmp_path))
    if isinstance(expected, str):
        with pytest.raises(LoadError) as caught:
            uris.parse(uri, settings)
        assert caught.value.code == expected
        return
    if isinstance(expected, tuple):
        kind, root, folder = expected
        expected = uris.FolderSource(kind, tmp_path / root, tmp_path / folder)
    assert uris.parse(uri, settings) == expected


async def test_a_model_folder_is_found(settings: ServingSettings) -> None:
    """A folder with configuration and safetensors is accepted, links inside the volume included."""
    model(settings.volumes / "models" / "real")
    (settings.volumes / "models" / "linked").symlink_to("real")
    expected = (settings.volumes / "models" / "real").resolve()
    assert await source.resolve(WeightsArguments(uri="pvc://models/real"), settings) == expected
    assert await source.resolve(WeightsArguments(uri="pvc://models/linked"), settings) == expected


async def test_a_claim_may_itself_be_a_link(settings: ServingSettings, tmp_path: Path) -> None:
    """Where a volume is mounted is the administrator's choice; only what is below it must stay there."""
    model(tmp_path / "elsewhere" / "m")
    (settings.volumes / "linked").symlink_to(tmp_path / "elsewhere")
    assert (
        await source.resolve(WeightsArguments(uri="pvc://linked/m"), settings)
        == (tmp_path / "elsewhere" / "m").resolve()
    )


@pytest.mark.parametrize(
    ("uri", "code", "words"),
    [
        ("pvc://nothing/m", "SourceNotFound", "claim nothing is not mounted"),
        ("pvc://models/absent", "SourceNotFound", "no folder"),
        ("pvc://models/empty", "SourceNotFound", "config.json"),
        ("pvc://models/bare", "SourceNotFound", "no safetensors"),
        ("pvc://models/pickled", "SourceRefused", "pytorch_model.bin"),
        ("pvc://models/escape", "SourceRefused", "symbolic link"),
        ("pvc://models/leak", "SourceRefused", "symbolic link"),
    ],
)
async def test_what_is_refused(settings: ServingSettings, uri: str, code: str, words: str) -> None:
    """Missing, pickled and escaping weights are told apart, with a message that says what is wrong."""
    models, outside = settings.volumes / "models", settings.volumes.parent / "outside"
    model(models / "empty", "readme.txt")
    model(models / "bare", "config.json")
    model(models / "pickled", "config.json", "pytorch_model.bin")
    model(outside / "m")
    (models / "escape").symlink_to(outside / "m")
    model(models / "leak", "config.json")
    (models / "leak" / "model.safetensors").symlink_to(outside / "m" / "model.safetensors")
    with pytest.raises(LoadError, match=words) as caught:
        await source.resolve(WeightsArguments(uri=uri), settings)
    assert caught.value.code == code


def _answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.invalid/x"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (hub.RepositoryNotFoundError("x", response=_answer(404)), "SourceNotFound"),
        (hub.RepositoryNotFoundError("x", response=_answer(401)), "SourceUnauthorized"),
        (hub.RevisionNotFoundError("x", response=_answer(404)), "SourceNotFound"),
        (hub.GatedRepoError("x", response=_answer(403)), "SourceUnauthorized"),
        (hub.HfHubHTTPError("x", response=_answer(404)), "SourceNotFound"),
        (hub.HfHubHTTPError("x", response=_answer(401)), "SourceUnauthorized"),
        (hub.HfHubHTTPError("x", response=_answer(503)), "SourceUnavailable"),
        (hub.LocalEntryNotFoundError("x"), "SourceUnavailable"),
        (hub.OfflineModeIsEnabled("x"), "SourceUnavailable"),
        (httpx.ConnectError("x"), "SourceUnavailable"),
        (OSError("connection lost"), "SourceUnavailable"),
    ],
)
def test_what_a_hub_failure_means(error: Exception, code: str) -> None:
    """Who has to act follows from the hub's answer; a Secret is named, its content is not."""
    secret = Credentials("team/hub", {"token": "hf_secret"})
    for credentials in (NONE, secret):
        found = hub_module.failure(error, "hf://org/name", credentials)
        assert found.code == code
        assert "hf_secret" not in found.message
    if code == "SourceUnauthorized":
        assert "team/hub" in found.message


async def test_an_adapter_folder_is_found(settings: ServingSettings) -> None:
    """An adapter has its own configuration file; a model folder is none, and the other way round."""
    claim = settings.volumes / "models"
    model(claim / "lora", "adapter_config.json", "adapter_model.safetensors")
    model(claim / "whole")
    found = await source.resolve_adapter(WeightsArguments(uri="pvc://models/lora"), settings)
    assert found == (claim / "lora").resolve()
    with pytest.raises(LoadError, match=r"adapter_config\.json"):
        await source.resolve_adapter(WeightsArguments(uri="pvc://models/whole"), settings)
    with pytest.raises(LoadError, match=r"no config\.json"):
        await source.resolve(WeightsArguments(uri="pvc://models/lora"), settings)


async def test_the_digest_of_a_volume_is_verified(settings: ServingSettings) -> None:
    """The digest that the command prints is accepted; after a change of one byte it is a DigestMismatch."""
    folder = model(settings.volumes / "models" / "m")
    weights = WeightsArguments(uri="pvc://models/m", digest=digests.of_folder(folder))
    assert await source.resolve(weights, settings) == folder.resolve()
    (folder / "README.md").write_text("not a part of the model")
    assert await source.resolve(weights, settings) == folder.resolve()
    (folder / "model.safetensors").write_text("x")
    with pytest.raises(LoadError, match="the spec says") as caught:
        await source.resolve(weights, settings)
    assert caught.value.code == "DigestMismatch"


@pytest.mark.parametrize("secret", ["team/absent", "team", "../x/y", "team/.."])
async def test_a_secret_that_is_not_mounted(settings: ServingSettings, secret: str) -> None:
    """The message names the folder to mount; a name that leads elsewhere is never opened."""
    with pytest.raises(LoadError) as caught:
        await source.resolve(WeightsArguments(uri="hf://org/name", secret=secret), settings)
    assert caught.value.code == "SourceUnauthorized"
    if secret == "team/absent":
        assert str(settings.secrets / "team" / "absent") in caught.value.message
