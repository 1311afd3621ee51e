# SPDX-License-Identifier: Apache-2.0
"""YAML as `lateen` reads it: as kubectl does, or with a word of where and why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_cli import documents, yaml_values
from lateen_cli.state import Unusable
from stack.yaml_words import NO_JSON, WORDS


def read(text: str, folder: Path) -> Any:
    """What is behind `key: ` in a file of these words."""
    (folder / "a.yaml").write_text(f"kind: A\nkey: {text}\n")
    (document,) = documents.read(str(folder / "a.yaml"))
    return document.content["key"]


@pytest.mark.parametrize(("text", "expected"), WORDS.items())
def test_a_word_is_what_kubectl_makes_of_it(text: str, expected: Any, tmp_path: Path) -> None:
    """The table is asked of kubectl itself in tests/integration."""
    found = read(text, tmp_path)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    """As kubectl refuses it."""
    with pytest.raises(Unusable, match=r"a\.yaml:2:\d+: "):
        read(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("{a: 1, a: 2}", 2, "key 'a' is given twice"),
        ("\n  1: a\n  '1': b", 4, "key '1' is given twice"),
        ("&a [*a]", 2, "nested too deep"),
        ("[" * 101 + "]" * 101, 2, "nested too deep"),
        (
            "\n".join(["[&a0 [x, x]"] + [f" , &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 20)]) + "]",
            0,
            "aliases",
        ),
    ],
)
def test_what_may_not_be_in_a_file(text: str, line: int, words: str, tmp_path: Path) -> None:
    """Keys that hide each other, and little text that stands for very much."""
    with pytest.raises(Unusable, match=words) as caught:
        read(text, tmp_path)
    assert not line or f"a.yaml:{line}:" in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab<y1~=", max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_json(value: Any) -> None:
    """JSON is YAML: what a program writes comes back."""
    (node,) = yaml_values.nodes(json.dumps({"a": value}))
    assert yaml_values.value(node)[0] == {"a": value}
