# SPDX-License-Identifier: Apache-2.0
"""Reads what a sentence-transformers folder says about pooling and length. Pure but for reading small JSON files.

Called by `embedder.py`; `relevance.py` reads files with it. Vectors are always normalised, as the engine's protocol promises.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lateen_serving.errors import LoadError

Pooling = Literal["mean", "cls", "lasttoken"]
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}
_FLAGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Recipe:
    """How token vectors become a text's vector."""

    pooling: Pooling
    max_tokens: int | None
    """Longest text in tokens, special ones included; None: what the encoder can read."""


def read(folder: Path) -> Recipe:
    """The recipe of a model folder: mean pooling if it says nothing; raises LoadError ModelUnsupported."""
    modules = read_json(folder / "modules.json")
    if modules is None:
        _refuse_language_model(read_json(folder / "config.json") or {})
        return Recipe("mean", None)
    if not isinstance(modules, list):
        raise unsupported("modules.json is not a list")
    kinds = {
        str(module.get("type", "")).rsplit(".", 1)[-1]: str(module.get("path", "")) for module in modules
    }
    unknown = sorted(kinds.keys() - _KNOWN_MODULES)
    if unknown:
        raise unsupported(f"modules.json names {unknown[0]}; known are Transformer, Pooling and Normalize")
    pooling: Pooling = "mean"
    if "Pooling" in kinds:
        pooling = pooling_of(read_json(_below(folder, kinds["Pooling"]) / "config.json") or {})
    sentence = read_json(folder / "sentence_bert_config.json") or {}
    length = sentence.get("max_seq_length") if isinstance(sentence, dict) else None
    return Recipe(pooling, length if isinstance(length, int) and length > 0 else None)


def pooling_of(config: dict[str, Any]) -> Pooling:
    """The one pooling mode a Pooling module's configuration switches on; raises LoadError ModelUnsupported."""
    named = config.get("pooling_mode")
    if named is not None:
        for pooling in get_args(Pooling):
            if named == pooling:
                return pooling  # type: ignore[no-any-return]  # get_args is not typed
        raise unsupported(f"pooling {named!r}; known are mean, cls and lasttoken")
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if len(modes) == 1 and modes[0] in _FLAGS:
        return _FLAGS[modes[0]]
    raise unsupported(
        f"pooling {', '.join(modes) or 'unset'}; known are mean, cls and lasttoken, one at a time"
    )


def _refuse_language_model(config: dict[str, Any]) -> None:
    names = config.get("architectures") or []
    if any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        raise unsupported(f"{names[0]} generates text and was not trained to embed; use task: generate")


def _below(folder: Path, path: str) -> Path:
    inner = (folder / path).resolve()
    if not inner.is_relative_to(folder.resolve()):
        raise unsupported("modules.json points outside the model's folder")
    return inner


def read_json(path: Path) -> Any:
    """The content of a JSON file; None when there is no file; raises LoadError ModelUnsupported."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise unsupported(f"{path.name} is not JSON: {error}") from error


def unsupported(message: str) -> LoadError:
    """The refusal of a folder that would be misread."""
    return LoadError(message, code="ModelUnsupported")
