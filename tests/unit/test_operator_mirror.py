# SPDX-License-Identifier: Apache-2.0
"""Secrets as files for Ray nodes of the same machine."""

from pathlib import Path
from typing import Any

import pytest

from lateen_operator.mirror import SecretsMirror
from lateen_operator.seams import Kind
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import LLM, model

TOKEN = ("default", "hub")


def protected(uri: str = "hf://org/a", reference: str = "hub", **more: Any) -> dict[str, Any]:
    """A model whose weights need a Secret."""
    return model(source={"uri": uri, "secretRef": {"name": reference}}, **more)


def files(folder: Path) -> dict[str, bytes]:
    """Content by path of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_mirror_writes_what_is_new_and_removes_what_is_not_there(tmp_path: Path) -> None:
    """Keys, Secrets and namespaces come and go; nobody else can read any of it."""
    folder = tmp_path / "secrets"
    mirror = SecretsMirror(folder)
    await mirror.sync({("a", "one"): {"token": b"1", "user": b"u"}, ("b", "two"): {"token": b"2"}})
    assert files(folder) == {"a/one/token": b"1", "a/one/user": b"u", "b/two/token": b"2"}
    modes = {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    await mirror.sync({("a", "one"): {"token": b"3"}})
    assert files(folder) == {"a/one/token": b"3"}
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
