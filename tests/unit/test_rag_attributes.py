# SPDX-License-Identifier: Apache-2.0
"""Attributes as tags: a comparison finds by tags exactly what it means."""

import operator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from lateen_serving.rag.attributes import Comparison, Operator, Value, tags, terms

_NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)
_VALUES = _NUMBERS | st.booleans() | st.text(max_size=4)
_ORDERS: dict[Operator, Any] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def holds(attributes: dict[str, Value], comparison: Comparison) -> bool:
    """What the store does with the tags."""
    found = terms(comparison)
    return (not set(tags(attributes)).isdisjoint(found.tags)) != found.negated


def same(one: Value, other: Value) -> bool:
    """Equal and of one kind: a boolean is no number."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@given(value=_NUMBERS, bound=_NUMBERS)
@example(value=0.0, bound=-0.0)
@example(value=-0.0, bound=0.0)
@example(value=5e-324, bound=0)
@example(value=-1.5, bound=-1.25)
def test_ranges_are_those_of_numbers(value: float, bound: float) -> None:
    """Every order holds for tags exactly when it holds for the numbers."""
    for name, order in _ORDERS.items():
        assert holds({"year": value}, Comparison("year", name, (bound,))) == order(value, bound), name


@given(value=_VALUES, others=st.lists(_VALUES, min_size=1, max_size=3))
def test_equality_is_that_of_values(value: Value, others: list[Value]) -> None:
    """A value is found by itself, of its own kind, and its opposite is the opposite."""
    expected = any(same(value, other) for other in others)
    assert holds({"a": value}, Comparison("a", "in", tuple(others))) == expected
    assert holds({"a": value}, Comparison("a", "nin", tuple(others))) != expected
    assert holds({"a": value}, Comparison("a", "eq", (others[0],))) == same(value, others[0])


@given(key=st.text(min_size=1, max_size=4), other=st.text(min_size=1, max_size=4), value=_VALUES)
def test_keys_never_mix(key: str, other: str, value: Value) -> None:
    """Whatever keys and values look like, a comparison looks at its own key; a missing one only fits a negation."""
    if key == other:
        return
    assert not holds({key: value}, Comparison(other, "eq", (value,)))
    assert holds({key: value}, Comparison(other, "ne", (value,)))


@given(value=_NUMBERS)
def test_a_range_is_small(value: float) -> None:
    """A comparison is at most 241 tags, a number sixteen."""
    assert len(terms(Comparison("a", "gte", (value,))).tags) <= 241
    assert len(tags({"a": value})) == 16


def test_nothing_is_beyond_the_end() -> None:
    """A comparison that no number can fulfil has tags of no number."""
    largest = 1.7976931348623157e308
    assert not holds({"a": largest}, Comparison("a", "gt", (largest,)))
