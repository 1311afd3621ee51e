# SPDX-License-Identifier: Apache-2.0
"""Weights from Google Cloud Storage and Azure Blob Storage, of servers that behave as these do."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import source
from unit.weights_clouds import ACCOUNT, ACCOUNT_KEY, SAS, Azure, Cloud, Google, running

FILES = {"config.json": b"{}", "model.safetensors": os.urandom(1_000_000), "tokenizer.json": b"[]"}
OBJECTS = {**{f"team/tiny/{name}": data for name, data in FILES.items()}, "team/tiny/README.md": b"r"}
AZURE = {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY}

Secret = Callable[..., str]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity of the machine that runs the tests is found, and nothing is waited for."""
    for name in list(os.environ):
        if name.upper().startswith(("GOOGLE_", "AZURE_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    """A node that may reach no private host."""
    return ServingSettings(secrets=tmp_path / "secrets", model_cache=tmp_path / "cache")


@pytest.fixture
def secret(settings: ServingSettings) -> Secret:
    """Mounts a Secret `team/s` with some keys; its name."""

    def mount(**values: str) -> str:
        folder = settings.secrets / "team" / "s"
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / key).write_text(f"{value}\n")
        return "team/s"

    return mount


def at(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the node's administrator say where Google is: a Secret can't."""
    monkeypatch.setenv("GOOGLE_BASE_URL", cloud.address)
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """A bucket `models` for one service account."""
    cloud = Google("models", dict(OBJECTS))
    with running(cloud):
        at(cloud, monkeypatch)
        yield cloud


@pytest.fixture
def azure() -> Iterator[Azure]:
    """A container `models` of one account."""
    cloud = Azure("models", dict(OBJECTS))
    with running(cloud):
        yield cloud


async def load(settings: ServingSettings, uri: str, secret: str | None) -> dict[str, bytes]:
    """What the resolved folder holds."""
    folder = await source.resolve(WeightsArguments(uri=uri, secret=secret), settings)
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


async def code(settings: ServingSettings, uri: str, secret: str | None) -> str:
    """The failure's code; nothing is left of the attempt."""
    with pytest.raises(LoadError) as caught:
        await load(settings, uri, secret)
    assert not list((settings.model_cache / "entries").iterdir())
    assert caught.value.code is not None
    return caught.value.code


def near(cloud: Cloud, settings: ServingSettings) -> ServingSettings:
    """A node that may reach the server."""
    return settings.model_copy(update={"source_hosts": [cloud.address]})


async def test_google_with_a_service_account(
    google: Google, settings: ServingSettings, secret: Secret
) -> None:
    """Every request carries a token signed with the account's key; all pages are read, and only the model's files."""
    name = secret(service_account_key=google.account())
    assert await load(settings, "gs://models/team/tiny", name) == FILES
    assert google.asked.count("GET /models") == len(OBJECTS)
    assert "GET /models/team/tiny/README.md" not in google.asked


async def test_google_in_public(
    monkeypatch: pytest.MonkeyPatch, settings: ServingSettings, secret: Secret
) -> None:
    """A public bucket is read without any identity when the Secret says so."""
    with running(Google("models", OBJECTS, public=True)) as cloud:
        at(cloud, monkeypatch)
        assert await load(settings, "gs://models/team/tiny", secret(skip_signature="true")) == FILES


async def test_google_that_says_no(google: Google, settings: ServingSettings, secret: Secret) -> None:
    """A stranger's key, another account, nobody, and what is not there are told apart."""
    stranger = rsa.generate_private_key(65537, 2048)
    for account in (google.account(key=stranger), google.account(email="other@project.example"), "{}"):
        name = secret(service_account_key=account)
        assert await code(settings, "gs://models/team/tiny", name) == "SourceUnauthorized"
        if account != "{}":
            assert await code(settings, "gs://models/team/x.gguf", name) == "SourceUnauthorized"
    name = secret(service_account_key=google.account())
    for uri in ("gs://models/team/absent", "gs://absent/team/tiny", "gs://models/team/absent.gguf"):
        assert await code(settings, uri, name) == "SourceNotFound", uri
    assert (
        await code(settings, "gs://models/team/tiny", secret(skip_signature="true")) == "SourceUnauthorized"
    )


@pytest.mark.parametrize(
    "keys",
    [AZURE, {"account_name": ACCOUNT, "sas_key": SAS}, {"account_name": ACCOUNT, "sas_key": f"?{SAS}"}],
)
async def test_azure(azure: Azure, settings: ServingSettings, secret: Secret, keys: dict[str, str]) -> None:
    """With the account's key every request is signed, with a shared access signature it is part of the query."""
    name = secret(**keys, endpoint=azure.address, allow_http="true")
    assert await load(near(azure, settings), "az://models/team/tiny", name) == FILES
    assert azure.asked.count("GET /models") == len(OBJECTS)


async def test_azure_of_the_node(
    monkeypatch: pytest.MonkeyPatch, azure: Azure, settings: ServingSettings, secret: Secret
) -> None:
    """Where the administrator says where the store is, the Secret's signature counts, not the node's own key."""
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azure.address)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IHRoaXMgb25l")
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    name = secret(account_name=ACCOUNT, sas_key=SAS)
    assert await load(settings, "az://models/team/tiny", name) == FILES


async def test_the_node_does_not_complete_a_secret(
    monkeypatch: pytest.MonkeyPatch, azure: Azure, settings: ServingSettings, secret: Secret
) -> None:
    """An account without a key is told so, though the node has a key of that account; nobody is asked."""
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azure.address)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    with pytest.raises(LoadError, match="Secret team/s: it lacks account_key") as caught:
        await load(settings, "az://models/team/tiny", secret(account_name=ACCOUNT))
    assert caught.value.code == "SourceUnauthorized"
    assert not azure.asked


async def test_the_node_does_not_leave_a_secret_out(
    monkeypatch: pytest.MonkeyPatch, google: Google, azure: Azure, settings: ServingSettings, secret: Secret
) -> None:
    """Requests are signed with the Secret's key also on a node that reads its own stores without signing."""
    for name in ("AZURE_SKIP_SIGNATURE", "GOOGLE_SKIP_SIGNATURE"):
        monkeypatch.setenv(name, "true")
    name = secret(service_account_key=google.account())
    assert await load(settings, "gs://models/team/tiny", name) == FILES
    (settings.secrets / "team" / "s" / "service_account_key").unlink()
    secret(**AZURE, endpoint=azure.address, allow_http="true")
    assert await load(near(azure, settings), "az://models/team/tiny", "team/s") == FILES


async def test_azure_that_says_no(azure: Azure, settings: ServingSettings, secret: Secret) -> None:
    """A wrong key, a wrong signature, nobody, and what is not there are told apart."""
    world = near(azure, settings)
    name = secret(**AZURE, endpoint=azure.address, allow_http="true")
    for uri in ("az://models/team/absent", "az://absent/team/tiny", "az://models/team/absent.gguf"):
        assert await code(world, uri, name) == "SourceNotFound", uri
    for keys in ({"account_key": "d3Jvbmc="}, {"account_key": "no base64"}, {"skip_signature": "true"}):
        secret(**keys)
        for uri in ("az://models/team/tiny", "az://models/team/tiny.gguf"):
            assert await code(world, uri, name) == "SourceUnauthorized", (keys, uri)


async def test_azure_with_a_wrong_signature(azure: Azure, settings: ServingSettings, secret: Secret) -> None:
    """A shared access signature of somebody else is refused, and never repeated in the message."""
    name = secret(
        account_name=ACCOUNT, sas_key="sv=2023-11-03&sig=other", endpoint=azure.address, allow_http="true"
    )
    with pytest.raises(LoadError) as caught:
        await load(near(azure, settings), "az://models/team/tiny", name)
    assert caught.value.code == "SourceUnauthorized"
    assert "other" not in caught.value.message


@pytest.mark.parametrize("store", ["gs", "az"])
async def test_a_download_that_breaks_off(
    google: Google, azure: Azure, settings: ServingSettings, secret: Secret, store: str
) -> None:
    """The rest is asked for as a range, and the file is whole."""
    cloud: Cloud = google if store == "gs" else azure
    keys = (
        {"service_account_key": google.account()}
        if store == "gs"
        else {**AZURE, "endpoint": azure.address, "allow_http": "true"}
    )
    cloud.cut.add("team/tiny/model.safetensors")
    assert await load(near(cloud, settings), f"{store}://models/team/tiny", secret(**keys)) == FILES
    assert [line for line in cloud.asked if "bytes=" in line]
