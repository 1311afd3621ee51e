# SPDX-License-Identifier: Apache-2.0
"""Which of the passages found are used: scores, documents, diversity, budgets, neighbours."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.rag_index import Retrieval
from lateen_serving.rag import expansion, ranking
from lateen_serving.rag.passages import Passage


def passage(name: str, score: float = 0.5, **more: Any) -> Passage:
    """`a3` is the passage at position 3 of document `a`, with its name as its text."""
    facts: dict[str, Any] = {"text": name, "heading": "", "uri": "", "tokens": 10} | more
    return Passage(name[0], name[0], score=score, position=int(name[1:]), **facts)


def how(**fields: Any) -> Retrieval:
    """Settings of a retrieval."""
    return Retrieval.model_validate(fields)


def names(passages: list[Passage]) -> list[str]:
    """`a3` for the passage at position 3 of document `a`."""
    return [f"{one.document_id}{one.position}" for one in passages]


FOUND = [passage("a0", 0.9), passage("a1", 0.8), passage("a2", 0.7), passage("b0", 0.6), passage("c0", 0.2)]


@pytest.mark.parametrize(
    ("fields", "limit", "min_score", "expected"),
    [
        ({}, 3, 0, ["a0", "a1", "a2"]),
        ({}, 9, 0, ["a0", "a1", "a2", "b0", "c0"]),
        ({}, 9, 0.6, ["a0", "a1", "a2", "b0"]),
        ({}, 9, 0.95, []),
        ({"perDocument": 1}, 3, 0, ["a0", "b0", "c0"]),
        ({"perDocument": 2}, 3, 0, ["a0", "a1", "b0"]),
        ({"perDocument": 1}, 3, 0.5, ["a0", "b0"]),
    ],
)
def test_chooses(fields: dict[str, Any], limit: int, min_score: float, expected: list[str]) -> None:
    """The best within the bounds, in order."""
    assert names(ranking.chosen(FOUND, how(**fields), limit, min_score)) == expected


@pytest.mark.parametrize(
    ("fields", "reranks", "expected"),
    [
        ({}, True, 3),
        ({"diversity": "0.3"}, True, 12),
        ({"perDocument": 1}, True, 12),
        ({"rerank": {"modelRef": {"name": "r"}, "candidates": 30}}, True, 30),
        ({"rerank": {"modelRef": {"name": "r"}, "candidates": 30}}, False, 3),
        ({"rerank": {"modelRef": {"name": "r"}, "candidates": 2}}, True, 3),
    ],
)
def test_searches_for_as_many_as_it_may_need(fields: dict[str, Any], *, reranks: bool, expected: int) -> None:
    """More where some are left out, moved or judged again; never fewer than are used."""
    assert ranking.candidates(how(**fields), 3, reranks=reranks) == expected
    assert ranking.candidates(how(**fields), 50, reranks=reranks) <= ranking.MOST


NORTH, NEARLY_NORTH, EAST = (0.0, 1.0), (0.1, 1.0), (2.0, 0.0)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(0.0, ["a0", "a1"]), (0.5, ["a0", "b0"]), (1.0, ["a0", "b0"]), (0.05, ["a0", "a1"])],
)
def test_diversity_prefers_what_is_new(weight: float, expected: list[str]) -> None:
    """A near copy of the best passage gives way to one that is about something else, if the weight is enough."""
    found = [
        passage("a0", 0.9, vector=NORTH),
        passage("a1", 0.8, vector=NEARLY_NORTH),
        passage("b0", 0.6, vector=EAST),
    ]
    assert names(ranking.diverse(found, weight, 2)) == expected


_VECTORS = st.lists(st.floats(-1, 1), min_size=3, max_size=3)
_SCORES = st.lists(st.tuples(st.floats(0, 1), st.none() | _VECTORS), max_size=8)


@given(found=_SCORES, weight=st.floats(0, 1), limit=st.integers(1, 10))
def test_diversity_only_reorders(found: list[tuple[float, Any]], weight: float, limit: int) -> None:
    """It picks as many as there may be, none twice, the best one first, whatever the vectors are."""
    passages = [
        passage(f"a{number}", score, vector=vector)
        for number, (score, vector) in enumerate(sorted(found, key=lambda pair: -pair[0]))
    ]
    picked = ranking.diverse(passages, weight, limit)
    assert len(picked) == min(limit, len(passages))
    assert len({one.position for one in picked}) == len(picked)
    if weight < 1:
        assert [one.score for one in picked[:1]] == [one.score for one in passages[:1]]


def test_other_scores_make_another_order() -> None:
    """A reranker's scores replace the search's; equal ones keep the order they had."""
    found = ranking.scored(FOUND[:3], [0.1, 0.7, 0.7])
    assert [(one.position, one.score) for one in found] == [(1, 0.7), (2, 0.7), (0, 0.1)]


def test_indexes_are_merged_by_score() -> None:
    """The best of all, those of the first index before equal ones of the second."""
    other = [passage("x0", 0.9), passage("x1", 0.1)]
    assert names(ranking.merged([FOUND[:2], other], 3)) == ["a0", "x0", "a1"]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(None, 5), (50, 5), (49, 4), (20, 2), (19, 1), (3, 1)],
)
def test_a_budget_keeps_the_best(budget: int | None, expected: int) -> None:
    """Passages are dropped from the end; the best one stays even alone beyond the budget."""
    assert names(ranking.within_budget(FOUND, budget)) == names(FOUND)[:expected]


def test_a_shorter_passage_does_not_jump_the_queue() -> None:
    """Where one does not fit, none after it is used."""
    found = [passage("a0", tokens=10), passage("a1", tokens=90), passage("a2", tokens=1)]
    assert names(ranking.within_budget(found, 20)) == ["a0"]


def test_the_places_around_passages() -> None:
    """On both sides, not before the beginning, none that is there already."""
    assert expansion.places([passage("a0"), passage("a2"), passage("b5")], 1) == [
        ("a", 1), ("a", 3), ("b", 4), ("b", 6),
    ]  # fmt: skip
    assert expansion.places([passage("a1")], 0) == []


def test_neighbours_are_added_once_and_in_order() -> None:
    """Each passage grows as far as there is no gap; what two could have goes to the better one."""
    found = [passage("a2"), passage("a4"), passage("b0")]
    around = [passage("a3"), passage("a1"), passage("a5"), passage("b2")]
    grown = expansion.expanded(found, around, 2)
    assert [one.text for one in grown] == ["a1\n\na2\n\na3", "a4\n\na5", "b0"]
    assert [one.tokens for one in grown] == [30, 20, 10]
    assert names(grown) == ["a2", "a4", "b0"]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (passage("a0", text="one two three"), passage("a1", text="three four"), "one two three four"),
        (passage("a0", text="one"), passage("a1", text="two"), "one\n\ntwo"),
        (
            passage("a0", text="one two", start=0, end=7),
            passage("a1", text="two six", start=4, end=11),
            "one two six",
        ),
        (
            passage("a0", text="go on on", start=0, end=8),
            passage("a1", text="on on", start=9, end=14),
            "go on on\n\non on",
        ),
        (
            passage("a0", text="one two", start=0, end=9),
            passage("a1", text="two six", start=4, end=11),
            "one two six",
        ),
    ],
    ids=["overlap", "no overlap", "offsets", "offsets say none", "offsets with blanks"],
)
def test_shared_text_is_told_once(left: Passage, right: Passage, expected: str) -> None:
    """Chunks overlap; together they read like the document."""
    (grown,) = expansion.expanded([left], [right], 1)
    assert grown.text == expected
    assert (grown.start, grown.end) == (left.start, right.end)
