# SPDX-License-Identifier: Apache-2.0
"""From a remote source into the cache: what is asked when, what is kept, whose Secret counts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lateen_api import digests
from lateen_api.serve_config import WeightsArguments
from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.outbound.credentials import NONE, Credentials
from lateen_serving.settings import ServingSettings
from lateen_serving.weights import local, remote, source, uris
from lateen_serving.weights.cache import Cache
from lateen_serving.weights.folders import CONTENTS
from lateen_serving.weights.hub import Hub
from lateen_serving.weights.quota import Room
from lateen_serving.weights.remote import Part, Survey

COMMIT = "0123456789" * 4
FILES = {"config.json": b"{}", "model.safetensors": b"w" * 100}


@dataclass
class Store:
    """A remote that may be out of reach."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    error: str | None = None
    left_out: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def survey(self) -> Survey:
        self.asked.append("survey")
        if self.error is not None:
            raise LoadError("no", code=self.error)
        return Survey(
            tuple(Part(name, name, str(hash(data)), len(data)) for name, data in self.files.items())
        )

    async def fill(self, survey: Survey, folder: Path, room: Room) -> list[str]:
        self.asked.append("fill")
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return self.left_out


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., source.Fetch]:
    """One source on its way into the cache."""

    def make(store: Store, uri: str = "hf://org/name", **more: Any) -> source.Fetch:
        weights = WeightsArguments(uri=uri, **more)
        parsed = uris.parse(uri, ServingSettings())
        assert not isinstance(parsed, uris.FolderSource)
        return source.Fetch(weights, parsed, "model", store, Cache(tmp_path / "cache"))

    return make


async def test_only_the_model_stays(fetch: Callable[..., source.Fetch]) -> None:
    """Archives, notes of clients and files that are no part of a model are gone when the folder appears."""
    extra = {".layer-0": b"tar", ".cache/x/y.json": b"{}", "README.md": b"r", "onnx/model.safetensors": b"o"}
    use = await fetch(Store({**FILES, **extra})).folder()
    assert set(local.names(use.folder)) == {*FILES, CONTENTS}
    assert sorted(path.name for path in use.folder.glob("[!.]*")) == sorted(FILES)


async def test_an_archive_of_pickles_is_refused(fetch: Callable[..., source.Fetch], tmp_path: Path) -> None:
    """What an archive held and was left out counts when it is judged."""
    with pytest.raises(LoadError, match=r"pytorch_model\.bin") as caught:
        await fetch(Store({"config.json": b"{}"}, left_out=["pytorch_model.bin"])).folder()
    assert caught.value.code == "SourceRefused"
    assert not list((tmp_path / "cache" / "scratch").iterdir())


async def test_unchanged_content_is_not_fetched_again(fetch: Callable[..., source.Fetch]) -> None:
    """A branch is asked for each time, and fetched when it has moved."""
    store = Store()
    first = await fetch(store).folder()
    assert (await fetch(store).folder()).folder == first.folder
    assert store.asked == ["survey", "fill", "survey"]
    store.files["config.json"] = b'{"v": 2}'
    assert (await fetch(store).folder()).folder != first.folder


@pytest.mark.parametrize("pin", ["commit", "digest"])
async def test_what_can_not_change_is_not_asked_for(
    fetch: Callable[..., source.Fetch], tmp_path: Path, pin: str
) -> None:
    """A commit or a digest that is in the cache needs no network."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    more = {"digest": digests.of_folder(tmp_path)} if pin == "digest" else {}
    uri = f"hf://org/name@{COMMIT}" if pin == "commit" else "hf://org/name"
    store = Store()
    first = await fetch(store, uri, **more).folder()
    assert (await fetch(store, uri, **more).folder()).folder == first.folder
    assert store.asked == ["survey", "fill"]


async def test_a_source_out_of_reach(fetch: Callable[..., source.Fetch]) -> None:
    """The weights of an earlier start are used, by the same Secret alone; a refusal is never passed over."""
    store = Store()
    first = await fetch(store, secret="team/a").folder()
    store.error = "SourceUnavailable"
    assert (await fetch(store, secret="team/a").folder()).folder == first.folder
    for secret in ("team/b", None):
        with pytest.raises(LoadError):
            await fetch(store, secret=secret).folder()
    store.error = "SourceUnauthorized"
    with pytest.raises(LoadError):
        await fetch(store, secret="team/a").folder()


async def test_a_digest_that_does_not_fit(fetch: Callable[..., source.Fetch], tmp_path: Path) -> None:
    """It is found before anything becomes visible."""
    with pytest.raises(LoadError, match="the spec says") as caught:
        await fetch(Store(), digest=f"sha256:{'0' * 64}").folder()
    assert caught.value.code == "DigestMismatch"
    assert not list((tmp_path / "cache" / "entries").iterdir())


async def test_the_hub_gets_the_token_and_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch is read as one commit, and only the model's files, with the Secret's token."""
    calls: list[dict[str, Any]] = []
    names = ("config.json", "model.safetensors", "model.bin", "README.md", "a.gguf")

    class Api:
        def __init__(self, token: str | None) -> None:
            calls.append({"token": token})

        def model_info(self, repository: str, **options: Any) -> SimpleNamespace:
            calls.append({"repository": repository, **options})
            siblings = [SimpleNamespace(rfilename=name, size=7) for name in names]
            return SimpleNamespace(sha=COMMIT, siblings=siblings)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    hub = Hub(uris.HubSource("org/name", "main"), "model", Credentials("team/hub", {"token": "hf_x"}))
    survey = await hub.survey()
    assert survey.size == 14
    assert [part.name for part in survey.parts] == ["config.json", "model.safetensors"]
    assert {part.version for part in survey.parts} == {COMMIT}
    assert [call.get("token") for call in calls] == ["hf_x", None]
    assert calls[1]["revision"] == "main"


async def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked several times, then it is SourceUnavailable with the repository's name."""
    attempts = 0

    class Api:
        def __init__(self, token: str | None) -> None:
            pass

        def model_info(self, repository: str, **options: Any) -> None:
            nonlocal attempts
            attempts += 1
            raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)
    with pytest.raises(LoadError, match="hf://org/name@v1") as caught:
        await Hub(uris.HubSource("org/name", "v1"), "model", NONE).survey()
    assert caught.value.code == "SourceUnavailable"
    assert attempts == retrying.ATTEMPTS


async def test_pauses_grow() -> None:
    """Backoff doubles, with jitter below it."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def fail() -> None:
        raise LoadError("no", code="SourceUnavailable")

    with pytest.raises(LoadError):
        await retrying.insist(fail, pause)
    assert len(pauses) == retrying.ATTEMPTS - 1
    for at, seconds in enumerate(pauses):
        assert 0.5 <= seconds / (retrying.FIRST_PAUSE * 2**at) <= 1.0


def test_equal_names_in_two_stores_are_two_sources() -> None:
    """What one endpoint calls `s3://models/x` says nothing of what another one does."""
    part = remote.Part("a", "x/a", "tag", 1)
    assert remote.Survey((part,), "endpoint=a").identity != remote.Survey((part,), "endpoint=b").identity
