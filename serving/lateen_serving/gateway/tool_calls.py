# SPDX-License-Identifier: Apache-2.0
"""Reads calls out of an answer while it arrives: pieces of text to pieces of content and of calls. Pure; used by
`choice.py`. The form of a call is told in `tools.py`.

    content --<tool_call>--> head --"arguments": --> arguments --matching brace--> tail --</tool_call>--> between
    between --<tool_call>--> head

An answer that the grammar held to always parses.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Literal

from lateen_serving.errors import ModelError
from lateen_serving.gateway.tools import CLOSE, OPEN

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([a-zA-Z0-9_-]{1,64})"\s*,\s*"arguments"\s*:\s*(?=\{)')
_MAX_HEAD = 256
_TAIL = re.compile(r"\s*\}\s*" + re.escape(CLOSE))


@dataclass(frozen=True)
class Text:
    """New content."""

    text: str


@dataclass(frozen=True)
class CallStart:
    """A call begins."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Arguments:
    """More of a call's arguments, JSON text."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnd:
    """A call is whole."""

    index: int


Delta = Text | CallStart | Arguments | CallEnd


class Reader:
    """Reads one answer."""

    def __init__(self) -> None:
        self._state: Literal["content", "head", "arguments", "tail", "between"] = "content"
        self._held = ""
        self._calls = 0
        self._json = _Braces()

    @property
    def called(self) -> bool:
        """Whether a call has begun."""
        return self._calls > 0

    def feed(self, text: str) -> list[Delta]:
        """What `text` adds; raises ModelError for a call that no grammar allows."""
        self._held += text
        deltas: list[Delta] = []
        step = {
            "content": self._content,
            "head": self._head,
            "arguments": self._arguments,
            "tail": self._tail,
            "between": self._between,
        }
        while True:
            state = self._state
            step[state](deltas)
            if self._state == state:
                return deltas

    def close(self) -> list[Delta]:
        """What the answer's end adds: text that could have become a call and didn't. A cut call stays cut."""
        held, self._held = self._held, ""
        return [Text(held)] if held and self._state == "content" else []

    def _content(self, deltas: list[Delta]) -> None:
        before, tag, after = self._held.partition(OPEN)
        if tag:
            self._state, self._held = "head", after
        else:
            # The end of the text may be the beginning of a tag, which the next piece tells.
            keep = next((size for size in range(len(OPEN) - 1, 0, -1) if before.endswith(OPEN[:size])), 0)
            self._held = before[len(before) - keep :]
            before = before[: len(before) - keep]
        if before:
            deltas.append(Text(before))

    def _head(self, deltas: list[Delta]) -> None:
        match = _HEAD.match(self._held)
        if match:
            deltas.append(CallStart(self._calls, f"call_{uuid.uuid4().hex[:24]}", match.group(1)))
            self._calls += 1
            self._json = _Braces()
            self._state, self._held = "arguments", self._held[match.end() :]
        elif CLOSE in self._held or len(self._held) > _MAX_HEAD:
            raise ModelError("The model's call of a function can't be read.", code="tool_call_unreadable")

    def _arguments(self, deltas: list[Delta]) -> None:
        size = self._json.feed(self._held)
        if size:
            deltas.append(Arguments(self._calls - 1, self._held[:size]))
        self._held = self._held[size:]
        if self._json.closed:
            deltas.append(CallEnd(self._calls - 1))
            self._state = "tail"

    def _tail(self, deltas: list[Delta]) -> None:  # noqa: ARG002 - one signature for all states
        match = _TAIL.match(self._held)
        if match:
            self._state, self._held = "between", self._held[match.end() :]

    def _between(self, deltas: list[Delta]) -> None:  # noqa: ARG002 - one signature for all states
        # Nothing but white space stands between calls; what follows the last one is nothing a client can use.
        _, tag, after = self._held.partition(OPEN)
        if tag:
            self._state, self._held = "head", after


class _Braces:
    """Finds the end of a JSON object that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.closed = False

    def feed(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for position, character in enumerate(text):
            if self._in_string:
                self._quoted(character)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.closed = True
                    return position + 1
        return len(text)

    def _quoted(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
