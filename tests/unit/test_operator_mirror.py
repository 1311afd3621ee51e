# SPDX-License-Identifier: Apache-2.0
"""Secrets as files for Ray nodes of the same machine."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lateen_operator import mirror as mirror_module
from lateen_operator.mirror import SecretsMirror
from lateen_operator.seams import Kind
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import INDEX, LLM, everything, index, model

TOKEN = ("default", "hub")


def protected(uri: str = "hf://org/a", reference: str = "hub", **more: Any) -> dict[str, Any]:
    """A model whose weights need a Secret."""
    return model(source={"uri": uri, "secretRef": {"name": reference}}, **more)


def files(folder: Path) -> dict[str, bytes]:
    """Content by the path that a replica's administrator sees, `NAMESPACE/NAME/KEY`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*/[!.]*")}


async def test_a_mirror_writes_what_is_new_and_removes_what_is_not_there(tmp_path: Path) -> None:
    """Keys, Secrets and namespaces come and go; nobody else can read any of it."""
    folder = tmp_path / "secrets"
    mirror = SecretsMirror(folder)
    await mirror.sync({("a", "one"): {"token": b"1", "user": b"u"}, ("b", "two"): {"token": b"2"}})
    assert files(folder) == {"a/one/token": b"1", "a/one/user": b"u", "b/two/token": b"2"}
    modes = {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert len(list((folder / "a" / "one").iterdir())) == 4
    await mirror.sync({("a", "one"): {"token": b"3"}})
    assert files(folder) == {"a/one/token": b"3"}
    assert len(list((folder / "a" / "one").iterdir())) == 3
    assert not (folder / "b").exists()
    await mirror.sync({})
    assert list(folder.iterdir()) == []


async def test_a_mirror_leaves_alone_what_is_right(tmp_path: Path) -> None:
    """A look that changes nothing writes nothing."""
    mirror = SecretsMirror(tmp_path)
    await mirror.sync({("a", "one"): {"token": b"1"}})
    before = (tmp_path / "a" / "one" / "token").stat().st_ino
    await mirror.sync({("a", "one"): {"token": b"1"}})
    assert (tmp_path / "a" / "one" / "token").stat().st_ino == before


async def test_a_reader_never_sees_keys_of_two_versions(tmp_path: Path) -> None:
    """User and password change together, whenever somebody looks: all keys of one state are behind one link."""
    mirror, done = SecretsMirror(tmp_path), threading.Event()
    content: Mapping[str, bytes] = {"user": b"0", "password": b"0"}
    await mirror.sync({("a", "one"): content})
    seen: set[tuple[bytes, ...]] = set()

    def look() -> None:
        while not done.is_set():
            try:
                real = (tmp_path / "a" / "one" / "..data").resolve(strict=True)
                seen.add(tuple((real / name).read_bytes() for name in ("user", "password")))
            except FileNotFoundError:
                continue  # replaced meanwhile: a reader looks again

    reader = asyncio.create_task(asyncio.to_thread(look))
    try:
        for number in range(200):
            content = dict.fromkeys(("user", "password"), str(number).encode())
            await mirror.sync({("a", "one"): content})
    finally:
        done.set()
        await reader
    assert seen
    assert not [pair for pair in seen if len(set(pair)) != 1]
    assert files(tmp_path) == {"a/one/user": b"199", "a/one/password": b"199"}


@pytest.mark.parametrize("step", ["write", "rename", "links", "removal"])
async def test_a_killed_write_shows_the_old_secret_and_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Wherever it stops, a reader gets one whole state; the next look leaves nothing of the attempt."""
    mirror, secret = SecretsMirror(tmp_path), tmp_path / "a" / "one"
    old, new = {"user": b"u", "old": b"o"}, {"user": b"v", "new": b"n"}
    await mirror.sync({("a", "one"): old})
    with monkeypatch.context() as killed:
        if step == "write":
            killed.setattr("os.open", fail)
        elif step == "rename":
            killed.setattr(Path, "replace", fail)
        else:
            killed.setattr(mirror_module, {"links": "_is_link", "removal": "_remove"}[step], fail)
        with pytest.raises(OSError, match="killed"):
            await mirror.sync({("a", "one"): new})
    shown = {path.name: path.read_bytes() for path in (secret / "..data").iterdir()}
    assert shown == (old if step in {"write", "rename"} else new)
    await mirror.sync({("a", "one"): new})
    assert files(tmp_path) == {"a/one/user": b"v", "a/one/new": b"n"}
    assert len(list(secret.iterdir())) == 4


def fail(*_: Any, **__: Any) -> None:
    """The process ends here."""
    raise OSError("killed")


async def test_what_is_in_the_way_is_replaced(tmp_path: Path) -> None:
    """Plain files, and links that lead elsewhere, become what they should be; their targets are left alone."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "token").write_bytes(b"of somebody else")
    folder = tmp_path / "secrets"
    (folder / "a" / "one").mkdir(parents=True, mode=0o755)
    (folder / "a" / "one" / "token").write_bytes(b"plain")
    (folder / "a" / "one" / "..data").symlink_to(other)
    (folder / "a" / "two").symlink_to(other)
    await SecretsMirror(folder).sync({("a", "one"): {"token": b"1"}, ("a", "two"): {"token": b"2"}})
    assert files(folder) == {"a/one/token": b"1", "a/two/token": b"2"}
    assert (other / "token").read_bytes() == b"of somebody else"


async def test_a_secret_is_there_before_the_model_that_needs_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The replica gets its name, the folder its content, and no log or status has it."""
    world = FakeWorld()
    world.secrets[TOKEN] = {"token": b"hf_very_secret"}
    world.secrets["default", "other"] = {"token": b"not asked for"}
    world.put(Kind.MODEL_DEPLOYMENT, "llm", protected())
    operator = FakeOperator(world, secrets_folder=str(tmp_path))
    await operator.once()
    assert files(tmp_path) == {"default/hub/token": b"hf_very_secret"}
    (arguments,) = [
        app.config["args"] for name, app in world.applications.items() if app.config and "_llm_" in name
    ]
    assert arguments["secret"] == "default/hub"
    await operator.settle()
    shown = capsys.readouterr().out + str(world.resources[LLM].status) + str(world.applications)
    assert "hf_very_secret" not in shown


async def test_a_missing_secret_is_named_and_its_arrival_heals(tmp_path: Path) -> None:
    """Nothing starts without it; an adapter's counts as well."""
    world = FakeWorld()
    adapter = {"name": "sales", "uri": "hf://org/sales", "secretRef": {"name": "other"}}
    world.put(Kind.MODEL_DEPLOYMENT, "llm", protected(adapters=[adapter]))
    operator = FakeOperator(world, secrets_folder=str(tmp_path))
    await operator.settle()
    assert ready(world, LLM) == ("False", "ReferenceNotFound")
    message = world.resources[LLM].status["conditions"][0]["message"]
    assert "there is no Secret default/hub, default/other" in message
    assert not [name for name in world.applications if "_llm_" in name]
    world.secrets[TOKEN] = world.secrets["default", "other"] = {"token": b"x"}
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")


async def test_the_secret_of_an_index_is_there_before_its_build(tmp_path: Path) -> None:
    """Without it nothing is built and the source is named; what is sent to Ray has its name alone."""
    world = everything(FakeWorld())
    source = {"name": "book", "git": {"url": "https://git.example/book", "secretRef": {"name": "hub"}}}
    world.put(Kind.RAG_INDEX, "handbook", index(sources=[source]))
    operator = FakeOperator(world, secrets_folder=str(tmp_path))
    await operator.settle()
    assert ready(world, INDEX) == ("False", "ReferenceNotFound")
    assert "spec.sources[book]" in world.resources[INDEX].status["conditions"][0]["message"]
    assert not world.requests
    world.secrets[TOKEN] = {"token": b"hf_very_secret"}
    await operator.settle()
    assert ready(world, INDEX) == ("True", "Ready")
    assert files(tmp_path) == {"default/hub/token": b"hf_very_secret"}
    (request,) = world.requests.values()
    assert (request["namespace"], request["sources"][0]["git"]["secretRef"]) == ("default", {"name": "hub"})
    assert "hf_very_secret" not in str(world.requests)


async def test_a_secret_stays_until_the_last_application_that_uses_it_is_gone(tmp_path: Path) -> None:
    """The old revision may have to start a replica while the new one is on its way."""
    world = FakeWorld()
    world.secrets[TOKEN] = world.secrets["default", "new"] = {"token": b"x"}
    world.put(Kind.MODEL_DEPLOYMENT, "llm", protected())
    operator = FakeOperator(world, secrets_folder=str(tmp_path))
    await operator.settle()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", protected("hf://org/b", "new"))
    await operator.once()
    assert sorted(files(tmp_path)) == ["default/hub/token", "default/new/token"]
    await operator.settle()
    assert sorted(files(tmp_path)) == ["default/new/token"]


async def test_without_a_folder_no_secret_is_read() -> None:
    """In a cluster Ray nodes get Secrets another way, and the operator needs no right to read them."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", protected())
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, LLM) == ("True", "Ready")
