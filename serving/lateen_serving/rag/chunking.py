# SPDX-License-Identifier: Apache-2.0
"""Cuts text into passages that an embedder can read. Pure; called by `cutting.py`.

Lengths are tokens of the embedder: the caller gives the text together with the character span of each token.
A window of tokens slides over a section or the whole text. It ends at the best boundary near its limit: between
paragraphs, at a line's or sentence's end, between words, anywhere; the next one starts `overlap` tokens before.
Paragraphs that fit share a passage; a long paragraph becomes several. With sentences given, windows end and overlap
at those only, unless one is longer than a window.

The vector of a passage stands for its heading path and its text; `text` itself is stored without the headings.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from lateen_serving.rag import outline
from lateen_serving.rag.outline import Section

Spans = Sequence[tuple[int, int]]
"""Start and end offset of each token, ascending."""

_SENTENCE_ENDS = (".", "!", "?", "\u2026")
_WIDE_ENDS = ("\u3002", "\uff01", "\uff1f")
"""Ends of sentences that no space follows."""


class Boundary(IntEnum):
    """How good a place before a token is for a cut."""

    NONE = 0
    WORD = 1
    LINE = 2
    """Or a sentence."""

    PARAGRAPH = 3


@dataclass(frozen=True)
class Piece:
    """A passage of a text."""

    heading: str
    """Headings above it, `A > B`, that its vector stands for too; empty if it stands for the text alone."""

    text: str
    start: int = 0
    """Offset of its first character in the text it was cut from."""

    @property
    def end(self) -> int:
        """Offset after its last character."""
        return self.start + len(self.text)

    @property
    def embedded(self) -> str:
        """What its vector stands for."""
        return f"{self.heading}\n\n{self.text}" if self.heading else self.text


@dataclass(frozen=True)
class Limits:
    """Lengths in tokens."""

    size: int
    """Longest passage."""

    overlap: int
    """Tokens that neighbours share at most."""

    @classmethod
    def within(cls, size: int, overlap: int, readable: int) -> "Limits":
        """The wanted lengths, no longer than the embedder can read; the overlap at most three quarters of it."""
        size = max(1, min(size, readable))
        return cls(size, min(overlap, size * 3 // 4))


@dataclass(frozen=True)
class Text:
    """A text with its tokens."""

    text: str
    spans: Spans
    fences: Sequence[tuple[int, int]] = ()
    """Ranges inside which a blank line ends no paragraph."""

    sentences: Sequence[int] = ()
    """Tokens that begin a sentence, ascending: where windows may end. Empty: anywhere."""

    def boundary(self, token: int) -> Boundary:
        """How good a cut before `token` is."""
        left = right = self.spans[token][0]
        while left > 0 and self.text[left - 1].isspace():
            left -= 1
        while right < len(self.text) and self.text[right].isspace():
            right += 1
        between = self.text[left:right]
        if "\n\n" in between and not self._fenced(left):
            return Boundary.PARAGRAPH
        before = self.text[left - 1 : left]
        if "\n" in between or before in _WIDE_ENDS or (between and before in _SENTENCE_ENDS):
            return Boundary.LINE
        return Boundary.WORD if between else Boundary.NONE

    def _fenced(self, offset: int) -> bool:
        position = bisect_right(self.fences, (offset, len(self.text))) - 1
        return position >= 0 and offset < self.fences[position][1]


def cut(body: Text, limits: Limits, readable: int, sections: Sequence[Section] = ()) -> list[Piece]:
    """The passages of `body`, in order; its tokens have a length.

    `readable` is what the embedder can read without its special tokens; heading paths count against it. No passage
    crosses the end of one of the `sections`; without any the text is one.
    """
    pieces: list[Piece] = []
    starts = [span[0] for span in body.spans]
    for section in sections:
        first, last = bisect_left(starts, section.start), bisect_left(starts, section.end)
        room = max(readable - _heading_tokens(section.path, body), readable // 2)
        within = Limits.within(limits.size, limits.overlap, room)
        parts = _windows(body, first, last, (section.start, section.end), within)
        pieces.extend(Piece(section.path, part, start) for start, part in parts)
    if pieces:
        return pieces
    whole = _windows(body, 0, len(body.spans), (0, len(body.text)), limits)
    return [Piece("", part, start) for start, part in whole]


def _heading_tokens(path: str, body: Text) -> int:
    """About as many tokens as a heading path has: the text's own density of tokens, rounded up."""
    if not path:
        return 0
    density = len(path) * len(body.spans) // max(len(body.text), 1)
    return density + 4 * (path.count(outline.SEPARATOR) + 1)


def _windows(
    body: Text, first: int, last: int, area: tuple[int, int], limits: Limits
) -> Iterator[tuple[int, str]]:
    """Offset and text of each window over the tokens from `first` to `last`, which cover `area`."""
    start = first
    while start < last:
        limit = min(start + limits.size, last)
        end = limit if limit == last else _end(body, start, limit, limits)
        begin = area[0] if start == first else body.spans[start][0]
        stop = area[1] if end == last else body.spans[end][0]
        part = body.text[begin:stop].lstrip()
        if part:
            yield stop - len(part), part.rstrip()
        start = last if end == last else _next_start(body, start, end, limits)


def _end(body: Text, start: int, limit: int, limits: Limits) -> int:
    """Where a window ends: a paragraph's end in its last half, a line's or sentence's in its last quarter, a word's."""
    progress = start + limits.overlap + 1
    if body.sentences:
        whole = bisect_right(body.sentences, limit) - 1
        if whole >= 0 and body.sentences[whole] >= progress:
            return body.sentences[whole]
    earliest = {
        Boundary.PARAGRAPH: max(limit - limits.size // 2, progress),
        Boundary.LINE: max(limit - limits.size // 4, progress),
        Boundary.WORD: progress,
    }
    best, kind = limit, Boundary.NONE
    for token in range(limit, progress - 1, -1):
        found = body.boundary(token)
        if found > kind and token >= earliest[found]:
            best, kind = token, found
        if kind is Boundary.PARAGRAPH or (kind > Boundary.NONE and token <= earliest[Boundary.PARAGRAPH]):
            break
    return best


def _next_start(body: Text, start: int, end: int, limits: Limits) -> int:
    wanted = max(end - limits.overlap, start + 1)
    if body.sentences:
        at = bisect_left(body.sentences, wanted)
        return min(body.sentences[at], end) if at < len(body.sentences) else end
    words = (token for token in range(wanted, end) if body.boundary(token) > Boundary.NONE)
    return next(words, wanted)


def segments(text: str, longest: int) -> list[tuple[int, str]]:
    """`text` in parts of at most `longest` characters with their offsets, cut at white space where there is any.

    Tokenizers work word by word, so that the tokens of the parts are those of the whole.
    """
    found = []
    start = 0
    while len(text) - start > longest:
        window = text[start : start + longest]
        stop = next((at for at in map(window.rfind, ("\n\n", "\n", " ")) if at > longest // 2), longest)
        found.append((start, text[start : start + stop]))
        start += stop
    return [*found, (start, text[start:])] if start < len(text) or not found else found
