# SPDX-License-Identifier: Apache-2.0
"""Two contents as a unified diff of YAML, in colours on a terminal. Pure but for `show`; used by `revisions.py`."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from lateen_cli.terminal import visible

_STYLES = {"---": "bold", "+++": "bold", "@@": "cyan", "-": "red", "+": "green"}
"""By the start of a line, longer ones first."""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines line by line, so that a diff shows which of them changed."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def document(content: Mapping[str, Any]) -> str:
    """`content` as YAML, its fields in their order."""
    text: str = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def lines(before: Mapping[str, Any], after: Mapping[str, Any], old_name: str, new_name: str) -> Sequence[str]:
    """The unified diff, without line ends; empty when they are equal."""
    old, new = document(before).splitlines(), document(after).splitlines()
    return list(difflib.unified_diff(old, new, old_name, new_name, lineterm=""))


def show(console: Console, found: Sequence[str]) -> None:
    """Print a diff; the console knows whether it is a terminal."""
    for line in found:
        style = next((style for start, style in _STYLES.items() if line.startswith(start)), "")
        console.print(Text(visible(line) if console.is_terminal else line, style=style), soft_wrap=True)
