# SPDX-License-Identifier: Apache-2.0
"""Decides by their names which files of a source are loaded, before any is fetched, and refuses the rest.

Called by every source with what it lists, and by `source.py` for folders of the node.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from lateen_api.digests import model_files
from lateen_serving.errors import LoadError

Kind = Literal["model", "adapter"]
"""What a folder has to be: a model, or a LoRA adapter in peft's format."""

MOST_FILES = 10_000
"""Files that one source may list."""

_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"})
_LONGEST_NAME = 512


def choose(names: Iterable[str], kind: Kind, where: str) -> list[str]:
    """The relative names to fetch and load; raises LoadError unless they make a model or an adapter.

    `where` names the source in messages. One GGUF file alone is a model: it carries configuration and tokenizer.
    """
    listed = list(names)
    if len(listed) > MOST_FILES:
        raise LoadError(f"{where} has more than {MOST_FILES} files", code="SourceRefused")
    for name in listed:
        check_name(name, where)
    chosen = model_files(listed)
    weights = [name for name in chosen if name.endswith(".safetensors")]
    ggufs = [name for name in chosen if name.endswith(".gguf")]
    if not weights and not (ggufs and kind == "model"):
        raise _without_weights(listed, chosen, kind, where)
    if not weights and len(ggufs) > 1:
        raise LoadError(
            f"{where} has {len(ggufs)} GGUF files ({ggufs[0]}, {ggufs[1]}, …); name one of them or a folder with one",
            code="ModelUnsupported",
        )
    if weights:
        _require_config(chosen, kind, where)
    return chosen


def gguf(names: Iterable[str]) -> str | None:
    """The one GGUF file among names that `choose` has accepted, if the weights are not safetensors."""
    return next((name for name in names if name.endswith(".gguf")), None)


def check_name(name: str, where: str) -> None:
    """Raise LoadError SourceRefused unless `name` is a relative path that stays in its folder."""
    path = PurePosixPath(name)
    wrong = (
        not name
        or len(name) > _LONGEST_NAME
        or not name.isprintable()
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or str(path) != name
    )
    if wrong:
        raise LoadError(f"{where} names a file that is refused: {name[:80]!r}", code="SourceRefused")


def _require_config(chosen: list[str], kind: Kind, where: str) -> None:
    needed = "config.json" if kind == "model" else "adapter_config.json"
    if needed not in chosen:
        what = "a model" if kind == "model" else "an adapter"
        raise LoadError(f"{where} has no {needed}: it is not {what} folder", code="SourceNotFound")


def _without_weights(listed: list[str], chosen: list[str], kind: Kind, where: str) -> LoadError:
    pickles = sorted(name for name in listed if PurePosixPath(name).suffix in _PICKLES)
    if pickles:
        return LoadError(
            f"{where} has only weights that could run code when loaded ({pickles[0]}); convert them to safetensors",
            code="SourceRefused",
        )
    try:
        _require_config(chosen, kind, where)
    except LoadError as error:
        return error
    return LoadError(f"{where} has no safetensors weights", code="SourceNotFound")
