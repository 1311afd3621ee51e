# SPDX-License-Identifier: Apache-2.0
"""Tokens to text, as they come: whole characters only, and nothing from a stop text on.

Used by `scheduler.py`, one AnswerText per running request. Pure but for the tokenizer.
"""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_INCOMPLETE = "\ufffd"
_LONGEST_CHARACTER = 8
"""After this many undecidable tokens the bytes are simply not valid UTF-8, and go out as replacement characters."""


class Detokenizer:
    """Decodes a growing answer piece by piece; bytes of an unfinished character are held back.

    Each piece is decoded together with the tokens of the piece before it, because tokenizers treat the first token
    of a text differently; so the joined pieces equal the decoded whole.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._context_text = ""
        self._pending: list[int] = []

    @property
    def unfinished(self) -> bool:
        """Whether the text of the last token is still undecided."""
        return bool(self._pending)

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._pending.append(token)
        text = self._decode(self._context + self._pending)
        if text.endswith(_INCOMPLETE) and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        if len(text) <= len(self._context_text):
            return ""
        piece = text[len(self._context_text) :]
        self._context, self._pending = self._pending, []
        self._context_text = self._decode(self._context)
        return piece


class StopFilter:
    """Passes text on up to the first stop text, across the borders of pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """Text that is safe to send, and whether a stop text was met. What may begin a stop text is held back."""
        text = self._held + piece
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class AnswerText:
    """Both of the above: tokens in, sendable text out."""

    def __init__(self, decode: Decode, stops: Sequence[str]) -> None:
        self._detokenizer = Detokenizer(decode)
        self._filter = StopFilter(stops)
        self.decoded = 0
        """Characters of the answer so far, whether they may be sent or not."""
        self.sent = 0
        """Characters given out so far."""

    @property
    def unfinished(self) -> bool:
        """Whether the text of the last token is still undecided."""
        return self._detokenizer.unfinished

    def push(self, token: int) -> tuple[str, bool]:
        """Text to send after `token`, and whether a stop text ends the answer."""
        piece = self._detokenizer.push(token)
        self.decoded += len(piece)
        text, stopped = self._filter.push(piece)
        self.sent += len(text)
        return text, stopped

    def flush(self) -> str:
        """The rest, at the end of the answer; bytes of a character that was never finished are dropped."""
        text = self._filter.flush()
        self.sent += len(text)
        return text
