# SPDX-License-Identifier: Apache-2.0
"""Reads what a sentence-transformers folder says about a cross-encoder's score. Pure but for reading small JSON files.

Called by `reranker.py`. Scores always go through a sigmoid, as the engine's protocol promises: for a folder that
wants the bare number (`Identity`) the order of documents stays the same.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lateen_serving.engine.pooling import read_json, unsupported

_KNOWN_ACTIVATIONS = {"Sigmoid", "Identity"}


def check(folder: Path) -> None:
    """Raise LoadError ModelUnsupported when the folder computes its score in a way that is not known here."""
    modules = read_json(folder / "modules.json")
    for module in modules if isinstance(modules, list) else []:
        kind = _last(module.get("type", ""))
        if kind != "Transformer":
            raise unsupported(f"modules.json names {kind}; a cross-encoder has only a Transformer")
    for name in _activations(folder):
        if _last(name) not in _KNOWN_ACTIVATIONS:
            raise unsupported(f"the score goes through {_last(name)}; known are Sigmoid and Identity")


def _activations(folder: Path) -> Iterator[Any]:
    """Activations by their import paths; sentence-transformers has kept them in three places."""
    config = _object(read_json(folder / "config.json"))
    own = _object(read_json(folder / "config_sentence_transformers.json"))
    nested = _object(config.get("sentence_transformers"))
    found = (
        config.get("sbert_ce_default_activation_function"),
        nested.get("activation_fn"),
        own.get("activation_fn"),
    )
    yield from (name for name in found if name is not None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _last(path: object) -> str:
    return str(path).rsplit(".", 1)[-1]
