# SPDX-License-Identifier: Apache-2.0
"""Reading a real S3 server; needs no stack."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lateen_api.rag_sources import Source
from lateen_serving.outbound import retrying
from lateen_serving.rag import sources as rag_sources
from lateen_serving.rag.protocol import Cursor, Loaded, SourceFailure, mark
from lateen_serving.rag.sources import NOTHING, Surroundings
from lateen_serving.settings import ServingSettings
from stack import sources
from stack.sources import Server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The bucket `papers` with some objects; failures are not waited for."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.01)
    with sources.s3(tmp_path / "s3") as running:
        for name, text in {
            "public/a.md": "# A",
            "public/sub/b.txt": "b",
            "public/c.bin": "c",
            "other/d.md": "d",
        }.items():
            path = running.folder / "papers" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield running


class World:
    """A node that may reach the server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.runs = folder, 0
        self.settings = ServingSettings(secrets=folder / "secrets", source_hosts=[server.address])
        self.secret(access_key_id=sources.KEY, secret_access_key=sources.SECRET, endpoint=server.address)
        self.secret(allow_http="true", region="us-east-1")

    def secret(self, **values: str) -> None:
        place = self.settings.secrets / "team" / "s3"
        place.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (place / key).write_text(value)

    async def load(self, uri: str = "s3://papers/public", cursor: Cursor = NOTHING) -> Loaded:
        """The source `s`."""
        self.runs += 1
        scratch = self.folder / f"scratch{self.runs}"
        around = Surroundings(self.settings, self.folder, scratch, 1000, "team")
        spec: dict[str, Any] = {"uri": uri, "secretRef": {"name": "s3"}}
        return await rag_sources.load(
            Source.model_validate({"name": "s", "objectStore": spec}), around, cursor
        )


async def test_only_changed_objects_are_fetched(server: Server, tmp_path: Path) -> None:
    """By their entity tags; new ones are found and those that are gone are not."""
    world = World(tmp_path, server)
    first = await world.load()
    assert {item.id: await item.read() for item in first.documents} == {"s/a.md": b"# A", "s/sub/b.txt": b"b"}
    cursor = Cursor({}, {item.id: mark(item.uri, item.version) for item in first.documents})
    folder = server.folder / "papers" / "public"
    (folder / "new.md").write_text("new")
    (folder / "sub" / "b.txt").unlink()
    second = await world.load(cursor=cursor)
    assert {item.id: item.unchanged for item in second.documents} == {"s/a.md": True, "s/new.md": False}


@pytest.mark.parametrize(
    ("uri", "secret", "reason"),
    [
        ("s3://none/public", {}, "SourceNotFound"),
        ("s3://papers/none", {}, "SourceNotFound"),
        ("s3://papers/public", {"secret_access_key": "wrong"}, "SourceUnauthorized"),
        ("s3://papers/public", {"endpoint": "http://10.0.0.1"}, "SourceRefused"),
    ],
)
async def test_failures_have_reasons(
    server: Server, tmp_path: Path, uri: str, secret: dict[str, str], reason: str
) -> None:
    """A missing bucket or folder, a wrong key, an endpoint that must not be reached."""
    world = World(tmp_path, server)
    world.secret(**secret)
    with pytest.raises(SourceFailure) as failure:
        await world.load(uri)
    assert failure.value.reason == reason
    assert sources.SECRET not in str(failure.value)
