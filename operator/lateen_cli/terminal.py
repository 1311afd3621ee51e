# SPDX-License-Identifier: Apache-2.0
"""Texts of prompts, values and other people's servers on a person's terminal, which they must not steer."""

import json
import re
import sys
from typing import IO, Any

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""Control characters but tab and line feed, other ends of lines, and what turns the reading direction."""


def visible(text: str) -> str:
    r"""The text with what steers a terminal written out, such as `\x1b`."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def tell(text: str, out: IO[str] | None = None) -> None:
    """Print a line: as it is to a file or a pipe, harmless to a terminal. By default to standard output."""
    target = out or sys.stdout
    print(visible(text) if target.isatty() else text, file=target)


def tell_json(value: Any) -> None:
    """Print a value as JSON, on a terminal in printable ASCII."""
    is_terminal = sys.stdout.isatty()
    text = json.dumps(value, indent=2, ensure_ascii=is_terminal)
    print(text.replace("\x7f", "\\u007f") if is_terminal else text)


def complain(text: str) -> None:
    """Likewise to standard error."""
    tell(text, sys.stderr)
