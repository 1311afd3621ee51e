# SPDX-License-Identifier: Apache-2.0
"""One answer as it grows: text, log probabilities, calls and how it ended. Pure; used by the generating endpoints."""

from dataclasses import dataclass, field
from typing import Literal

from lateen_serving.engine.protocol import TokenEvent, TokenLogprob, ToolCall
from lateen_serving.gateway.tool_calls import Arguments, CallEnd, CallStart, Delta, Reader, Text

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Piece:
    """What one event adds."""

    deltas: list[Delta]
    logprobs: list[TokenLogprob]
    """Of the tokens of the text."""

    finish_reason: FinishReason | None = None
    """How the answer ended; None: it goes on."""

    @property
    def text(self) -> str:
        """What is no call."""
        return "".join(delta.text for delta in self.deltas if isinstance(delta, Text))


@dataclass
class Choice:
    """An answer so far. With `reads_calls` calls of functions are taken out of its text."""

    reads_calls: bool = False
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of the tokens of the text; those of calls aren't told."""

    calls: list[ToolCall] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    is_in_call: bool = False
    """Whether the last call is not whole (yet)."""

    def __post_init__(self) -> None:
        self._reader = Reader()
        self._unplaced: list[TokenLogprob] = []
        self._text_bytes = 0
        """Of the text that `_unplaced` isn't set off against yet."""

    def feed(self, event: TokenEvent) -> Piece:
        """Take an event of the engine; raises ModelError for a call that can't be read."""
        reason = event.get("finish_reason")
        deltas = self._deltas(event["text"], reason is not None)
        for delta in deltas:
            self._take(delta)
        if reason is not None:
            # A stop text may end an answer in the middle of a call, which nobody should make then.
            is_whole = self.calls and not self.is_in_call
            self.finish_reason = "tool_calls" if is_whole and reason == "stop" else reason
        logprobs = self._logprobs_of_text(event.get("logprobs", []), reason is not None)
        return Piece(deltas, logprobs, self.finish_reason if reason is not None else None)

    def _deltas(self, text: str, is_last: bool) -> list[Delta]:
        if not self.reads_calls:
            return [Text(text)] if text else []
        return [*self._reader.feed(text), *(self._reader.close() if is_last else [])]

    def _take(self, delta: Delta) -> None:
        match delta:
            case Text(text):
                self.text += text
                self._text_bytes += len(text.encode())
            case CallStart(_, identity, name):
                self.calls.append(ToolCall(id=identity, name=name, arguments=""))
                self.is_in_call = True
            case Arguments(index, text):
                self.calls[index]["arguments"] += text
            case CallEnd():
                self.is_in_call = False

    def _logprobs_of_text(self, arrived: list[TokenLogprob], is_last: bool) -> list[TokenLogprob]:
        """Tokens whose text has been told. Text that may become a call is held back, and so are its tokens."""
        if not self.reads_calls:
            placed = arrived
        else:
            self._unplaced += arrived
            placed = self._unplaced if is_last and not self.calls else self._covered()
            self._unplaced = self._unplaced[len(placed) :]
        self.logprobs += placed
        return placed

    def _covered(self) -> list[TokenLogprob]:
        covered = []
        for token in self._unplaced:
            if len(token["bytes"]) > self._text_bytes:
                break
            self._text_bytes -= len(token["bytes"])
            covered.append(token)
        return covered
