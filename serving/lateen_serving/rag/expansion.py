# SPDX-License-Identifier: Apache-2.0
"""Passages together with what surrounds them in their documents. Pure; called by `gateway/retrieve.py`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from lateen_serving.rag.passages import Passage

Place = tuple[str, int]
"""Document id and position."""

_GAP = "\n\n"


def places(passages: Sequence[Passage], reach: int) -> list[Place]:
    """The places within `reach` of `passages` that none of them has."""
    own = {(passage.document_id, passage.position) for passage in passages}
    around = {
        (document, near)
        for document, position in own
        for near in range(max(0, position - reach), position + reach + 1)
    }
    return sorted(around - own)


def expanded(passages: Sequence[Passage], found: Iterable[Passage], reach: int) -> list[Passage]:
    """Each passage grown by what was `found` within `reach` of it, as far as that is without a gap.

    What is near two passages goes to the better one, which is first; no text is told twice.
    """
    free: dict[Place, Passage] = {(near.document_id, near.position): near for near in found}
    grown = []
    for passage in passages:
        before = _run(free, passage, range(passage.position - 1, passage.position - reach - 1, -1))
        after = _run(free, passage, range(passage.position + 1, passage.position + reach + 1))
        grown.append(_joined(passage, [*reversed(before), passage, *after]))
    return grown


def _run(free: dict[Place, Passage], passage: Passage, positions: Iterable[int]) -> list[Passage]:
    run = []
    for position in positions:
        near = free.pop((passage.document_id, position), None)
        if near is None:
            break
        run.append(near)
    return run


def _joined(passage: Passage, parts: Sequence[Passage]) -> Passage:
    if len(parts) == 1:
        return passage
    text = parts[0].text
    for left, right in pairwise(parts):
        text = _appended(text, right.text, _shared(left, right))
    first, last = parts[0], parts[-1]
    return replace(
        passage,
        text=text,
        tokens=sum(part.tokens for part in parts),
        page=first.page,
        start=first.start,
        end=last.end,
    )


def _shared(left: Passage, right: Passage) -> int | None:
    """Characters that two neighbours have in common by their offsets; None where these are not known."""
    if left.end is None or right.start is None:
        return None
    return max(0, left.end - right.start)


def _appended(text: str, following: str, shared: int | None) -> str:
    if shared and text.endswith(following[:shared]):
        return text + following[shared:]
    # Chunks are stripped, so that offsets may be a few blanks off; what both really have in common decides.
    overlap = 0 if shared == 0 else _overlap(text, following)
    return text + following[overlap:] if overlap else text + _GAP + following


def _overlap(text: str, following: str) -> int:
    """Length of the longest beginning of `following` that `text` ends with (prefix function of Knuth, Morris, Pratt)."""
    tail = text[-len(following) :]
    return _prefixes([*following, None, *tail])[-1]


def _prefixes(text: Sequence[str | None]) -> list[int]:
    lengths = [0] * len(text)
    for at in range(1, len(text)):
        length = lengths[at - 1]
        while length and text[at] != text[length]:
            length = lengths[length - 1]
        lengths[at] = length + (text[at] == text[length])
    return lengths
