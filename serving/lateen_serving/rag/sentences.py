# SPDX-License-Identifier: Apache-2.0
"""Finds where sentences begin, by marks that many scripts share; no list of words, no language. Pure; used by
`cutting.py`.
"""

import re
from collections.abc import Iterator

_ENDS = re.compile(
    r"\n[ \t]*\n\s*"  # a blank line
    "|[\u3002\uff01\uff1f\uff61][\u300d\u300f\u201d\u2019\uff09]*\\s*"  # Chinese and Japanese: no space follows
    "|[!?\u2026\u0964\u0965\u061f\u06d4\u0589\u1362\u104b\u17d4]+[\"'\u201d\u2019)\\]\u00bb]*\\s+"
    "|(?P<dot>\\.)[\"'\u201d\u2019)\\]\u00bb]*\\s+"
)


def starts(text: str) -> Iterator[int]:
    """Offsets at which sentences begin, ascending, without the first.

    A dot ends none before a lower-case letter (`e.g. this`) or after an initial (`J. Smith`).
    """
    for match in _ENDS.finditer(text):
        if match.end() < len(text) and not (match["dot"] and _continues(text, match.start(), match.end())):
            yield match.end()


def _continues(text: str, dot: int, following: int) -> bool:
    initial = text[max(0, dot - 1) : dot].isupper() and not text[max(0, dot - 2) : max(0, dot - 1)].isalnum()
    return text[following].islower() or initial
