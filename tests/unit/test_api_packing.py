# SPDX-License-Identifier: Apache-2.0
"""The catalog as one string."""

import base64
import copy
import gzip
import json

import pytest

from lateen_api import packing

DOCUMENT = {"keys": [], "prompts": [{"id": "größer", "revisions": [{"created": 1}] * 100}]}


def test_what_is_packed_is_unpacked() -> None:
    """Any JSON document, and equal ones give equal texts, whenever they are packed."""
    text = packing.pack(DOCUMENT)
    assert packing.unpack(text) == DOCUMENT
    assert packing.pack(copy.deepcopy(DOCUMENT)) == text
    assert len(text) < len(json.dumps(DOCUMENT)) / 5


def test_anybody_can_read_it_with_what_is_on_every_machine() -> None:
    """`base64 -d | gunzip` gives the JSON."""
    assert json.loads(gzip.decompress(base64.b64decode(packing.pack(DOCUMENT)))) == DOCUMENT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is a string, not NoneType"),
        (DOCUMENT, "is a string, not dict"),
        ("no base64!", "base64"),
        ("é", "ASCII"),
        (base64.b64encode(b"no gzip").decode(), "can't be read"),
        (packing.pack(DOCUMENT)[:40], "cut off"),
        (base64.b64encode(gzip.compress(b"{", mtime=0)).decode(), "Expecting"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: object, words: str) -> None:
    """As a ValueError, whatever is wrong."""
    with pytest.raises(ValueError, match=words):
        packing.unpack(text)


def test_a_text_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is unpacked than the limit."""
    monkeypatch.setattr(packing, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        packing.unpack(packing.pack({"x": "y" * 2000}))
