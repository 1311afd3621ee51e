# SPDX-License-Identifier: Apache-2.0
"""Which of the passages that were found are used, and in which order. Pure; called by `gateway/retrieve.py`.

found -> [reranked] -> at least `minScore` -> `perDocument` -> `diversity` -> limit -> neighbours -> token budget
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lateen_api.rag_index import Retrieval
from lateen_serving.rag.passages import Passage

MOST = 200
"""Passages that one search asks for at most."""

_SPARE = 4
"""Passages found per passage used, where some of them are left out or moved."""


def candidates(how: Retrieval, limit: int, *, reranks: bool) -> int:
    """How many passages to search for in order to use `limit`."""
    drops = how.per_document is not None or float(how.diversity) > 0
    wanted = max(
        limit, limit * _SPARE if drops else 0, how.rerank.candidates if how.rerank and reranks else 0
    )
    return min(wanted, MOST)


def scored(passages: Sequence[Passage], scores: Sequence[float]) -> list[Passage]:
    """The passages with other scores, best first; equal ones keep their order."""
    found = [replace(passage, score=score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(found, key=lambda passage: passage.score, reverse=True)


def chosen(passages: Sequence[Passage], how: Retrieval, limit: int, min_score: float) -> list[Passage]:
    """At most `limit` of `passages`, which are best first, none scored below `min_score`."""
    good = [passage for passage in passages if passage.score >= min_score]
    return diverse(capped(good, how.per_document), float(how.diversity), limit)


def capped(passages: Sequence[Passage], most: int | None) -> list[Passage]:
    """The first `most` passages of each document."""
    if most is None:
        return list(passages)
    seen: Counter[str] = Counter()
    kept = []
    for passage in passages:
        seen[passage.document_id] += 1
        if seen[passage.document_id] <= most:
            kept.append(passage)
    return kept


def diverse(passages: Sequence[Passage], weight: float, limit: int) -> list[Passage]:
    """The `limit` passages that maximal marginal relevance picks, in its order; the first ones for weight 0.

    Each pick maximizes (1 - weight) * score - weight * its greatest cosine similarity to those picked before. A passage
    without a vector resembles nothing.
    """
    if weight == 0 or len(passages) < 2:
        return list(passages[:limit])
    alike = _similarities(passages)
    scores = np.array([passage.score for passage in passages])
    nearest = np.zeros(len(passages))
    picked: list[int] = []
    while len(picked) < min(limit, len(passages)):
        gain = (1 - weight) * scores - weight * nearest
        gain[picked] = -np.inf
        best = int(np.argmax(gain))
        picked.append(best)
        nearest = alike[best] if len(picked) == 1 else np.maximum(nearest, alike[best])
    return [passages[number] for number in picked]


def _similarities(passages: Sequence[Passage]) -> npt.NDArray[np.float64]:
    """Cosine similarity of every two."""
    width = next((len(passage.vector) for passage in passages if passage.vector is not None), 1)
    rows = np.array([[0.0] * width if passage.vector is None else passage.vector for passage in passages])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.asarray(unit @ unit.T, dtype=np.float64)


def merged(results: Sequence[Sequence[Passage]], limit: int) -> list[Passage]:
    """The best of several indexes by score; equal ones in the order of the indexes."""
    found = [passage for result in results for passage in result]
    return sorted(found, key=lambda passage: passage.score, reverse=True)[:limit]


def within_budget(passages: Sequence[Passage], budget: int | None) -> list[Passage]:
    """The first passages with at most `budget` tokens together, the first in any case; a later, shorter one never
    takes the place of a better one.
    """
    kept: list[Passage] = []
    total = 0
    for passage in passages:
        total += passage.tokens
        if kept and budget is not None and total > budget:
            break
        kept.append(passage)
    return kept
