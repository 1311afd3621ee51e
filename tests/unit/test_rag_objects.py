# SPDX-License-Identifier: Apache-2.0
"""Object stores as sources, of servers that behave as Google's and Azure's do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lateen_api.rag_sources import Source
from lateen_serving.outbound import retrying
from lateen_serving.rag import files, sidecars, sources
from lateen_serving.rag.protocol import Cursor, Loaded, SourceFailure, mark
from lateen_serving.rag.sources import NOTHING, Surroundings
from lateen_serving.settings import ServingSettings
from unit.weights_clouds import ACCOUNT, ACCOUNT_KEY, Azure, running

OBJECTS = {
    "docs/a.md": b"# A", "docs/sub/b.txt": b"b", "docs/large.md": b"x" * 5000, "docs/c.bin": b"c", "docs/drafts/d.md": b"d",
    "docsx/e.md": b"e",
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)


@pytest.fixture
def azure() -> Iterator[Azure]:
    """The container `files`."""
    cloud = Azure("files", dict(OBJECTS))
    with running(cloud):
        yield cloud


class World:
    """A node that may reach the store with the Secret `az`."""

    def __init__(self, folder: Path, cloud: Azure) -> None:
        self.folder, self.runs = folder, 0
        self.settings = ServingSettings(secrets=folder / "secrets", source_hosts=[cloud.address])
        self.secret(
            account_name=ACCOUNT,
            account_key=ACCOUNT_KEY,
            endpoint=cloud.address,
            allow_http="true",
        )

    def secret(self, **values: str) -> None:
        place = self.settings.secrets / "team" / "az"
        place.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (place / key).write_text(value)

    async def load(self, uri: str = "az://files/docs", cursor: Cursor = NOTHING, **more: Any) -> Loaded:
        """The source `s`."""
        self.runs += 1
        around = Surroundings(self.settings, self.folder, self.folder / f"scratch{self.runs}", 1000, "team")
        spec = {"uri": uri, "secretRef": {"name": "az"}, **more}
        return await sources.load(Source.model_validate({"name": "s", "objectStore": spec}), around, cursor)

    async def failure(self, **more: Any) -> SourceFailure:
        """The failure of a run."""
        with pytest.raises(SourceFailure) as caught:
            await self.load(**more)
        assert ACCOUNT_KEY not in str(caught.value)
        return caught.value


@pytest.fixture
def world(tmp_path: Path, azure: Azure) -> World:
    """A node."""
    return World(tmp_path, azure)


async def test_objects_are_documents(world: World) -> None:
    """Those that the patterns take, below the folder; of too large ones only the size is known."""
    loaded = await world.load(exclude=["drafts/**"])
    found = {item.id: (item.uri, item.size) for item in loaded.documents}
    assert found == {
        "s/a.md": ("az://files/docs/a.md", 3),
        "s/large.md": ("az://files/docs/large.md", 5000),
        "s/sub/b.txt": ("az://files/docs/sub/b.txt", 1),
    }
    assert [await item.read() for item in loaded.documents if item.size < 1000] == [b"# A", b"b"]
    assert loaded.position.startswith("2026-11-24T08:00:00")


async def test_unchanged_objects_are_not_fetched_again(world: World, azure: Azure) -> None:
    """Their entity tags are in the listing; a changed one alone is fetched."""
    first = await world.load()
    cursor = Cursor({}, {item.id: mark(item.uri, item.version) for item in first.documents})
    azure.objects["docs/a.md"] = b"# New"
    azure.asked.clear()
    second = await world.load(cursor=cursor)
    changed = [item for item in second.documents if not item.unchanged]
    assert [(item.id, await item.read()) for item in changed] == [("s/a.md", b"# New")]
    assert len([line for line in azure.asked if "docs/sub/b.txt" in line and "list" not in line]) == 0


@pytest.mark.parametrize(
    ("first", "second"), [("a.md", "a.md.metadata.json"), ("a.md.metadata.json", "a.md")]
)
async def test_what_gets_a_partner_is_fetched_again(
    world: World, azure: Azure, first: str, second: str
) -> None:
    """An unchanged object beside which a sidecar file appears, and the other way round: both can be read."""
    azure.objects = {f"docs/{first}": b'{"x": 1}'}
    include = ["**/*.md", "**/*.json"]
    before = await world.load(include=include)
    cursor = Cursor({}, {item.id: mark(item.uri, item.version) for item in before.documents})
    azure.objects[f"docs/{second}"] = b'{"y": 1}'
    after = await world.load(cursor=cursor, include=include)
    (found,) = sidecars.paired(after.documents, cursor)
    assert (found.id, found.unchanged) == ("s/a.md", False)
    assert found.sidecar is not None
    assert {await found.read(), await found.sidecar.read()} == {b'{"x": 1}', b'{"y": 1}'}


async def test_a_whole_bucket_and_a_missing_folder(world: World) -> None:
    """Without a folder everything is taken; a folder without objects is not there."""
    loaded = await world.load("az://files", include=["**"])
    assert len(loaded.documents) == len(OBJECTS)
    assert (await world.failure(uri="az://files/none")).reason == "SourceNotFound"


async def test_failures_have_reasons(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key, a missing Secret, an endpoint that is not allowed, too many objects."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "MAX_FILES", 2)
        assert (await world.failure()).reason == "TooLarge"
    world.secret(account_key="d3Jvbmcga2V5")
    assert (await world.failure()).reason == "SourceUnauthorized"
    assert (await world.failure(secretRef={"name": "none"})).reason == "SourceUnauthorized"
    world.secret(endpoint="http://127.0.0.1:9/x")
    assert (await world.failure()).reason == "SourceRefused"
