# SPDX-License-Identifier: Apache-2.0
"""What an author says about a document: front matter and sidecar files. Pure; used by `plain.py` and `parsing.py`.

Front matter is written for other tools too, so that what is no plain value is left out of it. A sidecar file
`NAME.metadata.json` is written for us: a mistake in it is an error that names the key.
"""

import datetime
import json
import math
import re
from collections.abc import Mapping

import yaml

from lateen_serving.rag.parsing.parsed import MetadataValue, ParseFailure
from lateen_serving.rag.parsing.text import clean

SIDECAR = ".metadata.json"
"""What the name of a sidecar file adds to its document's."""

MAX_KEYS = 32
MAX_VALUE = 512
"""Characters of a text value."""

MAX_BYTES = 16_384
"""Characters of front matter, bytes of a sidecar file."""

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_REMEDY = "give text of at most 512 characters, a number, true or false"


def front_matter(text: str) -> tuple[dict[str, MetadataValue], str]:
    """The plain values of a Markdown text's YAML front matter, and the text without it."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    rest = text[match.end() :].strip()
    try:
        found = yaml.safe_load(match[1]) if len(match[1]) <= MAX_BYTES else None
    except (yaml.YAMLError, RecursionError, ValueError):  # somebody else's YAML; what it hides stays hidden
        found = None
    if not isinstance(found, dict):
        return {}, rest
    pairs = {
        key: _plain(value) for key, value in found.items() if isinstance(key, str) and _KEY.fullmatch(key)
    }
    kept = {key: value for key, value in pairs.items() if value is not None}
    return dict(list(kept.items())[:MAX_KEYS]), rest


def sidecar(data: bytes) -> Mapping[str, MetadataValue]:
    """The user metadata in a sidecar file; ParseFailure(Malformed) names what is wrong with it."""
    found = _loaded(data)
    if not isinstance(found, dict) or len(found) > MAX_KEYS:
        raise _wrong(f"it must be one JSON object of at most {MAX_KEYS} keys")
    metadata = {}
    for key, value in found.items():
        if not _KEY.fullmatch(key):
            raise _wrong(f"key {key[:80]!r}: use letters, digits, '_' and '-', at most 64, a letter first")
        plain = _plain(value)
        if plain is None:
            raise _wrong(f"value of {key!r}: {_REMEDY}")
        metadata[key] = plain
    return metadata


def _loaded(data: bytes) -> object:
    if len(data) > MAX_BYTES:
        raise _wrong(f"it has more than {MAX_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _wrong("it is no JSON") from error


def _wrong(message: str) -> ParseFailure:
    return ParseFailure("Malformed", f"its {SIDECAR} file: {message}")


def _plain(value: object) -> MetadataValue | None:
    """`value` if it can be metadata; dates become text."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) and abs(value) < 2**53 else None
    if isinstance(value, str):
        return clean(value) if len(value) <= MAX_VALUE else None
    return None
