# SPDX-License-Identifier: Apache-2.0
"""How good the results of known-item searches are. Pure; called by `measure.py`."""

from collections.abc import Sequence

CUTS = (1, 3, 10)


def rank(documents: Sequence[str], wanted: str) -> int | None:
    """At which place `wanted` is among the distinct `documents`, from 1; None if it is not."""
    distinct = list(dict.fromkeys(documents))
    return distinct.index(wanted) + 1 if wanted in distinct else None


def recall(ranks: Sequence[int | None], cut: int) -> float:
    """The share of searches whose document was among the first `cut`."""
    return sum(found is not None and found <= cut for found in ranks) / len(ranks)


def reciprocal(ranks: Sequence[int | None]) -> float:
    """Mean reciprocal rank, that of a document not found being 0."""
    return sum(0.0 if found is None else 1 / found for found in ranks) / len(ranks)


def summary(ranks: Sequence[int | None]) -> dict[str, float]:
    """Recall at each of CUTS, and the mean reciprocal rank."""
    return {**{f"recall_{cut}": recall(ranks, cut) for cut in CUTS}, "mrr": reciprocal(ranks)}
