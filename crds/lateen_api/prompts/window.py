# SPDX-License-Identifier: Apache-2.0
"""Fits a prompt into a context window by cutting what may be cut, in the author's order. Pure.

Everything that may give way is cut into pieces that stand on one ladder: rung n has lost the first n pieces. A rung is
composed and counted as a whole, because a chat template and conditions of the prompt decide what text there is. The
first rung that fits is found by search, so that a prompt costs a handful of counts and most prompts one.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from lateen_api.prompts.cutting import Cut, Material, MessageT, part

ComposedT = TypeVar("ComposedT")


@dataclass(frozen=True)
class Fitted(Generic[MessageT, ComposedT]):
    """A prompt that fits."""

    material: Material[MessageT]
    """What is left."""

    composed: ComposedT
    """The prompt, as it was counted."""

    tokens: int
    """Its count."""

    tokens_before: int
    """The whole prompt's count."""

    cuts: tuple[Cut, ...] = ()
    """What gave way, in the order in which it did; nothing if the whole prompt fits."""


class DoesNotFit(ValueError):
    """The prompt is too long, even if everything that may give way has.

    Attributes:
        tokens: Count of the whole prompt.
        least: Count without everything that may give way; equals `tokens` if nothing may.
        limit: Most tokens.

    """

    def __init__(self, tokens: int, least: int, limit: int) -> None:
        shortest = f", {least} without everything that may be cut" if least < tokens else ""
        super().__init__(f"the prompt is {tokens} tokens{shortest}; at most {limit} fit")
        self.tokens = tokens
        self.least = least
        self.limit = limit


def budget(
    context: int, max_prompt_tokens: int | None, reserve_output_tokens: int | None, max_tokens: int | None
) -> int:
    """Most tokens of a prompt: within the author's bound, and so that the answer fits behind it.

    Args:
        context: Tokens the model reads at most, answer included.
        max_prompt_tokens: The author's bound; None: none.
        reserve_output_tokens: Tokens the author keeps for the answer; None: one.
        max_tokens: Longest answer the request asks for; it is kept room for too. None: no number.

    Returns:
        The bound; below 1 where the answer alone is longer than the context.

    """
    room = context - max(1, reserve_output_tokens or 0, max_tokens or 0)
    return room if max_prompt_tokens is None else min(room, max_prompt_tokens)


def fit(
    material: Material[MessageT],
    order: Sequence[str],
    compose: Callable[[Material[MessageT]], ComposedT],
    count: Callable[[ComposedT], int],
    limit: int,
) -> Fitted[MessageT, ComposedT]:
    """The prompt with no more cut than needed.

    Args:
        material: The whole of it.
        order: What gives way, first to last, by the names of `Material`. Nothing else is cut; of something later
            nothing is cut while something earlier is left.
        compose: Makes the prompt of it.
        count: Tokens of a prompt. More material should not count less; where it does, more than needed may be cut, but
            what is returned was counted and fits.
        limit: Most tokens.

    Returns:
        The prompt after one count if all of it fits, else after at most 2 * log2(pieces) + 4 counts.

    Raises:
        DoesNotFit: It can't be made short enough.

    """
    composed = compose(material)
    whole = _Counted(0, composed, count(composed))
    if whole.tokens <= limit:
        return Fitted(material, composed, whole.tokens, whole.tokens)
    ladder = _Ladder(material, order)
    search = _Search(ladder, compose, count, limit)
    found = search.between(whole, search.at(ladder.top)) if ladder.top else whole
    if found.tokens > limit:
        raise DoesNotFit(whole.tokens, found.tokens, limit)
    left = ladder.material(found.rung)
    return Fitted(left, found.composed, found.tokens, whole.tokens, ladder.cuts(left))


@dataclass(frozen=True)
class _Counted(Generic[ComposedT]):
    rung: int
    composed: ComposedT
    tokens: int


class _Search(Generic[MessageT, ComposedT]):
    def __init__(
        self,
        ladder: "_Ladder[MessageT]",
        compose: Callable[[Material[MessageT]], ComposedT],
        count: Callable[[ComposedT], int],
        limit: int,
    ) -> None:
        self._ladder = ladder
        self._compose = compose
        self._count = count
        self._limit = limit

    def at(self, rung: int) -> _Counted[ComposedT]:
        composed = self._compose(self._ladder.material(rung))
        return _Counted(rung, composed, self._count(composed))

    def between(self, low: _Counted[ComposedT], high: _Counted[ComposedT]) -> _Counted[ComposedT]:
        """The first rung that fits; `low` does not, and if `high` does not either it is returned.

        Guesses by characters in turn with halving: a guess is usually off by a few pieces, and halving bounds the rest.
        """
        if high.tokens > self._limit:
            return high
        guesses = True
        while high.rung - low.rung > 1:
            rung = self._guess(low, high) if guesses else (low.rung + high.rung) // 2
            tried = self.at(min(max(rung, low.rung + 1), high.rung - 1))
            guesses = not guesses
            if tried.tokens > self._limit:
                low = tried
            else:
                high = tried
        return high

    def _guess(self, low: _Counted[ComposedT], high: _Counted[ComposedT]) -> int:
        weights = self._ladder.weights
        share = (low.tokens - self._limit) / max(1, low.tokens - high.tokens)
        return self._ladder.rung_of(weights[low.rung] + share * (weights[high.rung] - weights[low.rung]))


class _Ladder(Generic[MessageT]):
    """All states of the material, from whole (rung 0) to shortest (`top`)."""

    def __init__(self, material: Material[MessageT], order: Sequence[str]) -> None:
        self._whole = material
        self._parts = [part(material, what) for what in dict.fromkeys(order)]
        sizes = [size for one in self._parts for size in one.sizes]
        self.top = len(sizes)
        self.weights = [0, *accumulate(sizes)]
        """For each rung the characters that are gone."""

    def rung_of(self, weight: float) -> int:
        """The first rung on which at least so many characters are gone."""
        return bisect_left(self.weights, weight)

    def material(self, rung: int) -> Material[MessageT]:
        left = self._whole
        for one in self._parts:
            if rung <= 0:
                break
            left = one.without(left, min(rung, len(one.sizes)))
            rung -= len(one.sizes)
        return left

    def cuts(self, left: Material[MessageT]) -> tuple[Cut, ...]:
        found = [cut for one in self._parts for cut in one.cuts(self._whole, left)]
        return tuple(cut for cut in found if cut.after < cut.before)
