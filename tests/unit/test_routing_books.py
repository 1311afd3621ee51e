# SPDX-License-Identifier: Apache-2.0
"""Which requests count as ongoing where, and what two requests must share to meet."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_serving.routing import prefix
from lateen_serving.routing.balancer import Balancer
from lateen_serving.routing.ledger import OTHERS_SECONDS, Ledger, Sent
from lateen_serving.routing.pace import Average, Pace
from lateen_serving.routing.turns import LeastLoaded


def seeded(seed: int) -> Random:
    """A generator of reproducible numbers."""
    return Random(seed)  # noqa: S311 - breaks ties, guards nothing


REPLICAS = st.sampled_from("ab")
EVENTS = st.lists(
    st.tuples(st.sampled_from(["sent", "ended"]), REPLICAS, st.sampled_from("xyz")), max_size=60
)


@given(events=EVENTS)
def test_counts_are_those_of_the_requests_that_have_not_ended(events: list[tuple[str, str, str]]) -> None:
    """Whatever is told twice, never, or of an unknown request, a count is never wrong and never below zero."""
    ledger, open_requests = Ledger(), Counter[tuple[str, str]]()
    for kind, replica, request in events:
        if kind == "sent":
            ledger.sent(replica, request, 1.0)
            open_requests[replica, request] += 1
        else:
            known = open_requests[replica, request] > 0
            assert (ledger.ended(replica, request) is not None) == known
            open_requests[replica, request] -= known
    for replica in "ab":
        expected = sum(count for (name, _), count in open_requests.items() if name == replica)
        assert ledger.ongoing(replica, 1.0) == ledger.own(replica) == expected


def test_an_assigned_request_counts_before_it_is_sent() -> None:
    """Requests that come in the same moment see each other."""
    ledger = Ledger()
    ledger.reserve("a")
    assert ledger.ongoing("a", 0.0) == 1
    ledger.release("a")
    ledger.sent("a", "x", 0.0)
    assert ledger.ongoing("a", 0.0) == 1


def test_requests_of_other_gateways_count_for_a_while() -> None:
    """What a replica reports beyond the own requests is others', and soon out of date."""
    ledger = Ledger()
    ledger.sent("a", "x", 0.0)
    ledger.reported("a", 5, 0.0)
    assert ledger.ongoing("a", OTHERS_SECONDS) == 5
    assert ledger.ongoing("a", OTHERS_SECONDS + 0.1) == 1


def test_a_replica_that_comes_back_still_has_its_requests() -> None:
    """A replica that takes new settings leaves the list for a moment, while its requests go on."""
    ledger = Ledger()
    ledger.sent("a", "x", 0.0)
    ledger.keep([])
    ledger.keep(["a"])
    assert ledger.ongoing("a", 0.0) == 1
    assert ledger.ended("a", "x") == Sent(0.0, 1)
    assert ledger.ongoing("a", 0.0) == 0


def test_age_is_the_average_of_ongoing_requests() -> None:
    """In seconds; nothing is left of it when the last one has ended."""
    ledger = Ledger()
    ledger.sent("a", "x", 10.0)
    ledger.sent("a", "y", 14.0)
    assert ledger.age("a", 20.0) == pytest.approx(8.0)
    ledger.ended("a", "x")
    assert ledger.age("a", 20.0) == pytest.approx(6.0)
    ledger.ended("a", "y")
    assert ledger.age("a", 20.0) == 0.0


def test_pace_forgets_in_time() -> None:
    """A measurement after a long silence replaces the average; one of many moves it a little."""
    pace = Pace()
    pace.observe("a", 10.0, 0.0)
    pace.observe("a", 0.0, 0.0)
    average = pace.of("a")
    assert average is not None
    assert average.seconds == pytest.approx(9.0)
    pace.observe("a", 1.0, 1000.0)
    average = pace.of("a")
    assert average is not None
    assert average.seconds == pytest.approx(1.0)


def balancer() -> Balancer:
    """Least loaded with three replicas that have answered."""
    result = Balancer(LeastLoaded(), seeded(0))
    for replica in "abc":
        run(result, replica, 0.0, 1.0)
    return result


def run(books: Balancer, replica: str, start: float, seconds: float, request: str = "x") -> None:
    """One request from beginning to end."""
    books.assign(replica, start)
    books.release(replica)
    books.sent(replica, request, start)
    books.accepted(replica, request)
    books.ended(replica, request, start + seconds)


def fail(books: Balancer, replica: str, start: float, request: str = "x") -> None:
    """One request that fails at once."""
    books.sent(replica, request, start)
    books.accepted(replica, request)
    books.ended(replica, request, start + 0.001)
    books.failed(replica, request, start + 0.001)


def test_a_failed_request_counts_as_long_as_requests_take() -> None:
    """A replica that fails at once has never less to do than the others."""
    books = balancer()
    fail(books, "c", 2.0)
    assert books.rank(None, "abc", 2.9)[-1] == "c"
    assert books._ledger.ongoing("c", 3.1) == 0


def test_a_replica_that_goes_on_failing_is_asked_less_and_less() -> None:
    """Each failure in a row counts twice as long, within limits; one success ends it."""
    books = balancer()
    for second in (2.0, 3.5, 6.0):
        fail(books, "c", second)
    assert books.rank(None, "abc", 9.9) == ["a", "b"]
    assert books.rank(None, "c", 9.9) == ["c"]
    assert sorted(books.rank(None, "abc", 10.1)) == ["a", "b", "c"]
    run(books, "c", 10.5, 1.0)
    fail(books, "c", 13.0)
    assert books._ledger.ongoing("c", 13.9) == 1
    assert books._ledger.ongoing("c", 14.1) == 0


def test_a_callers_mistake_is_not_held_against_the_replica() -> None:
    """It says nothing about durations either."""
    books = balancer()
    for number in range(5):
        books.sent("c", f"f{number}", 2.0)
        books.accepted("c", f"f{number}")
        books.failed("c", f"f{number}", 2.001, is_to_blame=False)
        books.ended("c", f"f{number}", 2.001)
    assert sorted(books.rank(None, "abc", 3.0)) == ["a", "b", "c"]
    assert books._ledger.ongoing("c", 2.001) == 0
    assert books._pace.of("c") == Average(1.0, 1.0)


def test_failures_and_refusals_say_nothing_about_durations() -> None:
    """Both are quick, and neither is an answer."""
    books = balancer()
    for number in range(40):
        fail(books, "c", 2.0, f"f{number}")
        books.sent("c", f"r{number}", 2.0)
        books.ended("c", f"r{number}", 2.001)
    books.rank(None, "abc", 3.0)
    assert books._pace.of("c") == Average(1.0, 1.0)
    assert books.own("c") == 0


def test_word_of_the_end_may_come_before_word_of_the_beginning() -> None:
    """Ray tells of a unary call that it was accepted when it has its answer."""
    books = balancer()
    books.sent("a", "y", 2.0)
    books.ended("a", "y", 5.0)
    books.accepted("a", "y")
    books.rank(None, "abc", 6.0)
    assert books._pace.of("a") == Average(1.0 + 2.0 * (1 - math.exp(-0.4)), 5.0)
    assert not books._accepted


def test_word_that_comes_too_late_is_not_kept() -> None:
    """A slow client reads an error long after its request has ended; nothing is left of it in the books."""
    books = balancer()
    books.sent("a", "late", 2.0)
    books.accepted("a", "late")
    books.ended("a", "late", 2.1)
    books.rank(None, "abc", 9.0)
    books.failed("a", "late", 9.0)
    books.accepted("a", "late")
    assert not books._failed
    assert not books._accepted


SYSTEM = {"role": "system", "content": "You are a pirate."}


def chat(*contents: str, system: dict[str, str] | None = SYSTEM, **more: object) -> dict[str, object]:
    """A request with alternating turns."""
    turns = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": text}
        for number, text in enumerate(contents)
    ]
    return {"messages": [*([system] if system else []), *turns], **more}


def test_a_growing_conversation_keeps_its_key() -> None:
    """Every turn sends the whole conversation again, and must go where it is known."""
    opening = prefix.key(chat("Ahoy"))
    assert opening is not None
    assert prefix.key(chat("Ahoy", "Arr", "Where to?")) == opening
    assert prefix.key(chat("Ahoy", "Arr", "Where to?", "West", "Why?", temperature=0.3)) == opening


@pytest.mark.parametrize(
    "other",
    [
        chat("Good day"),
        chat("Ahoy", system=None),
        chat("Ahoy", system={"role": "system", "content": "You are a cook."}),
        chat("Ahoy", adapter="parrot"),
        chat("Ahoy", tools=[{"name": "sail", "description": "", "parameters": {}}]),
        {"messages": [], "prompt": "Ahoy"},
    ],
)
def test_conversations_that_open_differently_have_different_keys(other: dict[str, object]) -> None:
    """Another opening, system message, adapter or tool is another beginning of the text that the model reads."""
    assert prefix.key(other) not in (None, prefix.key(chat("Ahoy")))


def test_long_beginnings_meet() -> None:
    """What differs beyond the characters that count does not matter."""
    common = "x" * prefix.OPENING_CHARACTERS
    assert prefix.key(chat(common + "a")) == prefix.key(chat(common + "b"))
    assert prefix.key({"messages": [], "prompt": common + "a"}) == prefix.key(
        {"messages": [], "prompt": common + "b"}
    )
    assert prefix.key(chat("x" + common)) != prefix.key(chat("y" + common))


@pytest.mark.parametrize(
    "request_",
    [["a text to embed"], "query", None, {}, {"messages": [], "prompt": ""}, {"messages": "no"}, 3],
)
def test_other_calls_have_no_key(request_: object) -> None:
    """Texts to embed or to rank begin no conversation."""
    assert prefix.key(request_) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["role", "content", "x"]),
            st.sampled_from(["", "system", "user", "x" * 9000, None, "\ud800"]),
        )
        | st.integers(),
        max_size=4,
    )
)
def test_no_conversation_is_too_odd(messages: list[object]) -> None:
    """What the engine will refuse is refused by the engine; routing never fails."""
    assert (prefix.key({"messages": messages}) is None) == (not messages)
