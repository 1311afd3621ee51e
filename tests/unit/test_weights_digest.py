# SPDX-License-Identifier: Apache-2.0
"""The digest of a model folder, and the two commands that print it."""

import hashlib
import sys
from pathlib import Path

import pytest

from lateen_api import digests
from lateen_cli import main as cli
from lateen_serving.weights import digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with files that don't belong to it."""
    made = tmp_path / "m"
    for name in (
        "config.json", "model.safetensors", "a/vocab.txt", "README.md", "x.gguf", ".git/config.json",
        "onnx/model.safetensors", "pytorch_model.bin", ".hidden.json",
    ):  # fmt: skip
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    return made


def test_the_digest_is_what_sha256sum_prints_hashed(folder: Path) -> None:
    """Sorted names and checksums of the model's files, one a line; anyone can compute it."""
    names = ["a/vocab.txt", "config.json", "model.safetensors"]
    text = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names)
    assert digests.of_folder(folder) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert digests.model_files(["x.gguf", "config.json", "b.md"]) == ["config.json", "x.gguf"]


def test_it_follows_names_and_content_alone(folder: Path) -> None:
    """A file renamed or changed is another model; order of making, times and other files are not."""
    before = digests.of_folder(folder)
    (folder / "README.md").write_text("other")
    (folder / "config.json").touch()
    assert digests.of_folder(folder) == before
    (folder / "config.json").rename(folder / "generation_config.json")
    renamed = digests.of_folder(folder)
    (folder / "model.safetensors").write_text("changed")
    assert len({before, renamed, digests.of_folder(folder)}) == 3


def test_the_commands_print_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lateen digest` and the module print the same; a folder without a model ends with status 1."""
    assert digest.main([str(folder)]) == 0
    assert capsys.readouterr().out.strip() == digests.of_folder(folder)
    for place, status in ((folder, 0), (folder / "absent", 1), (folder / "x.gguf", 0)):
        monkeypatch.setattr(sys, "argv", ["lateen", "digest", str(place)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == status
        printed = capsys.readouterr()
        assert printed.out.strip() == ("" if status else digests.of_folder(place))
    assert digest.main([str(folder / "absent")]) == 1
    assert "absent" in capsys.readouterr().err
