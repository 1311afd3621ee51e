# SPDX-License-Identifier: Apache-2.0
"""Where weights may come from, and what is refused."""

from pathlib import Path

import httpx
import pytest
from huggingface_hub import errors as hub

from lateen_serving.engine import source
from lateen_serving.errors import LoadError
from lateen_serving.settings import ServingSettings


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    """Volumes with one claim, one allowed root, and a secret outside of both."""
    for folder in ("volumes/models", "allowed", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    return ServingSettings(
        volumes=tmp_path / "volumes", file_roots=[tmp_path / "allowed"], model_cache=tmp_path / "cache"
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
        ("hf://org/name", source.HubSource("org/name", None)),
        ("hf://org/name@v1.0", source.HubSource("org/name", "v1.0")),
        ("hf://org/name@refs/pr/1", source.HubSource("org/name", "refs/pr/1")),
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
        ("s3://bucket/x", "SourceRefused"),
        ("just text", "SourceRefused"),
    ],
)
def test_what_a_uri_means(settings: ServingSettings, tmp_path: Path, uri: str, expected: object) -> None:
    """Each scheme is read strictly, before anything is opened."""
    uri = uri.replace("{root}", str(tmp_path))
    if isinstance(expected, str):
        with pytest.raises(LoadError) as caught:
            source.parse(uri, settings)
        assert caught.value.code == expected
        return
    if isinstance(expected, tuple):
        kind, root, folder = expected
        expected = source.FolderSource(kind, tmp_path / root, tmp_path / folder)
    assert source.parse(uri, settings) == expected


async def test_a_model_folder_is_found(settings: ServingSettings) -> None:
    """A folder with configuration and safetensors is accepted, links inside the volume included."""
    model(settings.volumes / "models" / "real")
    (settings.volumes / "models" / "linked").symlink_to("real")
    expected = (settings.volumes / "models" / "real").resolve()
    assert await source.resolve("pvc://models/real", settings) == expected
    assert await source.resolve("pvc://models/linked", settings) == expected


async def test_a_claim_may_itself_be_a_link(settings: ServingSettings, tmp_path: Path) -> None:
    """Where a volume is mounted is the administrator's choice; only what is below it must stay there."""
    model(tmp_path / "elsewhere" / "m")
    (settings.volumes / "linked").symlink_to(tmp_path / "elsewhere")
    assert await source.resolve("pvc://linked/m", settings) == (tmp_path / "elsewhere" / "m").resolve()


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
        await source.resolve(uri, settings)
    assert caught.value.code == code


def _answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.invalid/x"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (hub.RepositoryNotFoundError("x", response=_answer(404)), "SourceNotFound"),
        (hub.RevisionNotFoundError("x", response=_answer(404)), "SourceNotFound"),
        (hub.GatedRepoError("x", response=_answer(403)), "SourceRefused"),
        (hub.HfHubHTTPError("x", response=_answer(404)), "SourceNotFound"),
        (hub.HfHubHTTPError("x", response=_answer(401)), "SourceRefused"),
        (hub.HfHubHTTPError("x", response=_answer(503)), "SourceUnavailable"),
        (hub.LocalEntryNotFoundError("x"), "SourceUnavailable"),
        (hub.OfflineModeIsEnabled("x"), "SourceUnavailable"),
        (httpx.ConnectError("x"), "SourceUnavailable"),
        (OSError("disk full"), "SourceUnavailable"),
    ],
)
def test_what_a_hub_failure_means(error: Exception, code: str) -> None:
    """Who has to act follows from the hub's answer."""
    assert source.hub_failure(error, "hf://org/name").code == code


async def test_an_unreachable_hub_is_unavailable(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a hub, the download says SourceUnavailable and names the repository."""

    def refuse(*arguments: object, **options: object) -> str:
        raise hub.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(LoadError, match="hf://org/name@v1") as caught:
        await source.resolve("hf://org/name@v1", settings)
    assert caught.value.code == "SourceUnavailable"
