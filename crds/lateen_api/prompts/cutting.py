# SPDX-License-Identifier: Apache-2.0
"""What a prompt is made of and the pieces in which it may give way. Pure; `window.py` decides how many go."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from lateen_api.prompt_variables import CONVERSATION
from lateen_api.prompts.violations import INSTRUCTING

Unit = Literal["turns", "passages", "items", "characters"]
MessageT = TypeVar("MessageT", bound=Mapping[str, Any])

_WORD = re.compile(r"\s*+\S{1,16}+\s*+|\s++")
"""A piece of a text: a word with the blanks around it; long words and scripts without blanks in shorter ones."""

_JOINER = "\u200d"


@dataclass(frozen=True)
class Material(Generic[MessageT]):
    """What a prompt is composed of, as far as it may be cut."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Values by variable. Of them strings lose all words but the first and lists all items, from the end; others never
    give way.
    """

    passages: Sequence[str] = ()
    """Retrieved passages, best first: the last give way first, whole ones before words of the first."""

    conversation: Sequence[MessageT] = ()
    """The caller's messages, oldest first, each with `role` and `content`. Turns give way whole, oldest first, so that
    calls stay with their results. System messages and the last turn stay.
    """

    retrieval: str = ""
    """Name of the variable that holds the passages; empty: none does."""


@dataclass(frozen=True)
class Cut:
    """Something that gave way."""

    what: str
    """The variable's name, or `conversation`."""

    unit: Unit
    """What is counted. Passages give way by whole ones, then the first one by characters."""

    before: int
    after: int


class Part(Protocol[MessageT]):
    """Something that may give way, piece by piece."""

    @property
    def sizes(self) -> Sequence[int]:
        """Characters of each piece, in the order in which they go."""
        ...

    def without(self, material: Material[MessageT], pieces: int) -> Material[MessageT]:
        """The material without the first so many pieces of this part, of which all is there."""
        ...

    def cuts(self, whole: Material[MessageT], left: Material[MessageT]) -> Iterator[Cut]:
        """What is left of this part, also where all of it is."""
        ...


def part(material: Material[MessageT], what: str) -> Part[MessageT]:
    """The part with this name; one without pieces where there is nothing that may go."""
    if what == CONVERSATION:
        return _Turns(material.conversation)
    if what == material.retrieval:
        return _Passages(what, material.passages)
    value = material.values.get(what)
    return _Items(what, value) if isinstance(value, (list, tuple)) else _Text(what, value)


class _Turns(Generic[MessageT]):
    def __init__(self, conversation: Sequence[MessageT]) -> None:
        turns = _turns(conversation)
        asking = [number for number, turn in enumerate(turns) if any(one["role"] == "user" for one in turn)]
        last = asking[-1] if asking else 0
        self._turns = turns[:last]
        self._kept = [message for turn in turns[last:] for message in turn]
        self.sizes = [
            sum(len(message["content"]) for message in turn if not _instructs(message))
            for turn in self._turns
        ]

    def without(self, material: Material[MessageT], pieces: int) -> Material[MessageT]:
        kept = [message for turn in self._turns[:pieces] for message in turn if _instructs(message)]
        kept += [message for turn in self._turns[pieces:] for message in turn]
        return replace(material, conversation=[*kept, *self._kept])

    def cuts(self, whole: Material[MessageT], left: Material[MessageT]) -> Iterator[Cut]:
        yield Cut(CONVERSATION, "turns", _count_turns(whole), _count_turns(left))


def _turns(conversation: Sequence[MessageT]) -> list[list[MessageT]]:
    """The conversation in turns that can go without two messages of one side meeting, which templates refuse.

    A turn goes from a user message to the next. Where the conversation begins with an answer, to the prompt's own user
    message, it goes from an answer to the user message behind it.
    """
    begins_with_answer = _roles(conversation)[:1] != ["user"]
    turns: list[list[MessageT]] = []
    previous = ""
    for message in conversation:
        is_next = previous == "user" if begins_with_answer else message["role"] == "user"
        if is_next or not turns:
            turns.append([])
        turns[-1].append(message)
        previous = message["role"]
    return turns


def _roles(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [message["role"] for message in messages if not _instructs(message)]


def _instructs(message: Mapping[str, Any]) -> bool:
    return message["role"] in INSTRUCTING


def _count_turns(material: Material[MessageT]) -> int:
    return sum(bool(_roles(turn)) for turn in _turns(material.conversation))


class _Passages:
    def __init__(self, name: str, passages: Sequence[str]) -> None:
        self._name = name
        self._ends = _ends(passages[0]) if passages else []
        self._whole = max(0, len(passages) - 1)
        self.sizes = [*map(len, reversed(passages[1:])), *_widths(self._ends)]

    def without(self, material: Material[MessageT], pieces: int) -> Material[MessageT]:
        kept = [*material.passages[: len(material.passages) - min(pieces, self._whole)]]
        words = pieces - self._whole
        if words > 0:
            first = _shortened(kept[0], self._ends, words)
            kept = [first] if first else []
        return replace(material, passages=kept)

    def cuts(self, whole: Material[MessageT], left: Material[MessageT]) -> Iterator[Cut]:
        yield Cut(self._name, "passages", len(whole.passages), len(left.passages))
        if left.passages:
            yield Cut(self._name, "characters", len(whole.passages[0]), len(left.passages[0]))


class _Items:
    def __init__(self, name: str, items: Sequence[Any]) -> None:
        self._name = name
        self.sizes = [len(str(item)) for item in reversed(items)]

    def without(self, material: Material[MessageT], pieces: int) -> Material[MessageT]:
        items = list(material.values[self._name])
        return replace(material, values={**material.values, self._name: items[: len(items) - pieces]})

    def cuts(self, whole: Material[MessageT], left: Material[MessageT]) -> Iterator[Cut]:
        yield Cut(self._name, "items", len(whole.values[self._name]), len(left.values[self._name]))


class _Text:
    def __init__(self, name: str, text: Any) -> None:
        self._name = name
        self._ends = _ends(text) if isinstance(text, str) else []
        self.sizes = _widths(self._ends)[:-1]

    def without(self, material: Material[MessageT], pieces: int) -> Material[MessageT]:
        if not pieces:
            return material
        text = _shortened(material.values[self._name], self._ends, pieces)
        return replace(material, values={**material.values, self._name: text})

    def cuts(self, whole: Material[MessageT], left: Material[MessageT]) -> Iterator[Cut]:
        if self._ends:
            yield Cut(self._name, "characters", len(whole.values[self._name]), len(left.values[self._name]))


def _ends(text: str) -> list[int]:
    """Where the text's pieces end, never within a character that several code points make."""
    ends = [match.end() for match in _WORD.finditer(text)]
    return [end for end in ends if end == len(text) or not _joins(text[end - 1], text[end])]


def _joins(before: str, after: str) -> bool:
    return _JOINER in {before, after} or unicodedata.category(after).startswith("M")


def _widths(ends: Sequence[int]) -> list[int]:
    """Characters of the pieces, the last piece first."""
    return [end - start for start, end in zip([0, *ends], ends, strict=False)][::-1]


def _shortened(text: str, ends: Sequence[int], pieces: int) -> str:
    left = len(ends) - pieces
    return text[: ends[left - 1]].rstrip() if left > 0 else ""
