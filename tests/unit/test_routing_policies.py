# SPDX-License-Identifier: Apache-2.0
"""What each routing strategy does: tables, and properties that hold for all loads and keys."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_serving.routing.policy import Load, Policy
from lateen_serving.routing.prefix_aware import PrefixAware, bound, home, preference
from lateen_serving.routing.response_time import EXPLORE_SECONDS, ResponseTime
from lateen_serving.routing.turns import LeastLoaded, RoundRobin


def seeded(seed: int) -> Random:
    """A generator of reproducible numbers."""
    return Random(seed)  # noqa: S311 - breaks ties, guards nothing


POLICIES: list[Callable[[], Policy]] = [RoundRobin, LeastLoaded, ResponseTime, PrefixAware]
LOADS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.integers(0, 40), min_size=1, max_size=12
)
KEYS = st.none() | st.binary(min_size=1, max_size=16)


def loads_of(ongoing: dict[str, int]) -> list[Load]:
    """Loads by replica."""
    return [Load(replica, count) for replica, count in ongoing.items()]


def give(policy: Policy, replicas: Sequence[str], times: int, key: bytes | None = None) -> list[str]:
    """The replicas that get `times` requests, one a second, each ended before the next one comes."""
    chosen = []
    for second in range(times):
        best = policy.rank(key, [Load(name, 0) for name in replicas], float(second), seeded(second))[0]
        policy.assigned(best, float(second))
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("make", POLICIES)
@given(ongoing=LOADS, key=KEYS)
def test_a_ranking_names_each_replica_once(
    make: Callable[[], Policy], ongoing: dict[str, int], key: bytes | None
) -> None:
    """Nobody is left out and nobody made up, so that a request finds any replica that has room."""
    ranked = make().rank(key, loads_of(ongoing), 0.0, seeded(0))
    assert sorted(ranked) == sorted(ongoing)


@pytest.mark.parametrize("make", POLICIES)
def test_no_replicas_no_ranking(make: Callable[[], Policy]) -> None:
    """While a model is scaled to zero there is nobody to name."""
    assert make().rank(b"key", [], 0.0, seeded(0)) == []


@pytest.mark.parametrize("make", POLICIES)
@given(ongoing=LOADS, key=KEYS, seed=st.integers())
def test_the_same_question_has_the_same_answer(
    make: Callable[[], Policy], ongoing: dict[str, int], key: bytes | None, seed: int
) -> None:
    """A ranking follows from what the policy was told and from the generator alone."""
    first = make().rank(key, loads_of(ongoing), 1.0, seeded(seed))
    assert make().rank(key, loads_of(ongoing), 1.0, seeded(seed)) == first


@pytest.mark.parametrize("make", POLICIES)
@given(count=st.integers(1, 10))
def test_nobody_starves(make: Callable[[], Policy], count: int) -> None:
    """Of equal replicas each one gets its share of requests that are unlike each other."""
    policy, replicas = make(), [f"r{number}" for number in range(count)]
    chosen = Counter[str]()
    for number in range(40 * count):
        best = policy.rank(b"%d" % number, [Load(name, 0) for name in replicas], 0.0, seeded(number))[0]
        policy.assigned(best, 0.0)
        policy.completed(best, 1.0, 1, 0.0)
        chosen[best] += 1
    assert set(chosen) == set(replicas)
    assert min(chosen.values()) >= 10


def test_round_robin_takes_turns_whatever_the_load() -> None:
    """Each replica is next once a round, in the order of the first round."""
    chosen = give(RoundRobin(), ["a", "b", "c"], 9)
    assert sorted(chosen[:3]) == ["a", "b", "c"]
    assert chosen == chosen[:3] * 3


def test_round_robin_lets_a_new_replica_in_at_once() -> None:
    """A replica that joins is next, and then one of the round."""
    policy = RoundRobin()
    give(policy, ["a", "b"], 6)
    chosen = give(policy, ["a", "b", "c"], 6)
    assert chosen[0] == "c"
    assert Counter(chosen) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize(
    ("ongoing", "first"),
    [
        ({"a": 3, "b": 1, "c": 2}, ["b", "c", "a"]),
        ({"a": 0, "b": 40}, ["a", "b"]),
        ({"a": 5}, ["a"]),
    ],
)
def test_least_loaded_ranks_by_ongoing_requests(ongoing: dict[str, int], first: list[str]) -> None:
    """Fewest ongoing requests first."""
    assert LeastLoaded().rank(None, loads_of(ongoing), 0.0, seeded(0)) == first


def test_least_loaded_takes_turns_among_equals() -> None:
    """At low load, when nobody has anything to do, requests spread."""
    assert set(Counter(give(LeastLoaded(), ["a", "b", "c", "d"], 40)).values()) == {10}


def timed(durations: dict[str, float], now: float = 100.0) -> ResponseTime:
    """A policy that has asked each replica just now and measured these durations."""
    policy = ResponseTime()
    for replica, seconds in durations.items():
        policy.assigned(replica, now)
        policy.completed(replica, seconds, 1, now)
    return policy


@pytest.mark.parametrize(
    ("durations", "ongoing", "best"),
    [
        ({"fast": 1.0, "slow": 3.0}, {"fast": 0, "slow": 0}, "fast"),
        ({"fast": 1.0, "slow": 3.0}, {"fast": 1, "slow": 0}, "fast"),
        ({"fast": 1.0, "slow": 3.0}, {"fast": 5, "slow": 0}, "slow"),
        ({"a": 1.0, "b": 1.0}, {"a": 2, "b": 1}, "b"),
    ],
)
def test_response_time_ranks_by_expected_time(
    durations: dict[str, float], ongoing: dict[str, int], best: str
) -> None:
    """What was measured grows with the number of requests that the replica would have."""
    assert timed(durations).rank(None, loads_of(ongoing), 100.0, seeded(0))[0] == best


def test_response_time_asks_a_slow_replica_again() -> None:
    """A replica that was slow once is asked again after a while, so that its recovery is noticed."""
    policy = timed({"fast": 1.0, "slow": 30.0})
    asked = []
    for step in range(400):
        now = 100.0 + step * 0.1
        best = policy.rank(None, loads_of({"fast": 0, "slow": 0}), now, seeded(0))[0]
        policy.assigned(best, now)
        policy.completed(best, 1.0, 1, now)
        if best == "slow":
            asked.append(now)
    assert asked
    assert 100 + EXPLORE_SECONDS < asked[0] < 100 + EXPLORE_SECONDS + 0.2


def test_response_time_is_not_misled_by_load() -> None:
    """A replica that is measured under load is not slow, and a slow one is not fast because it is idle."""
    policy = ResponseTime()
    for name, seconds, ongoing in [("busy", 2.2, 12), ("slow", 5.2, 1)]:
        policy.assigned(name, 100.0)
        policy.completed(name, seconds, ongoing, 100.0)
    assert policy.rank(None, loads_of({"busy": 12, "slow": 0}), 100.0, seeded(0))[0] == "busy"


def test_response_time_fades_what_is_old() -> None:
    """An old measurement counts for less than its distance from what is usual today."""
    policy = timed({"fast": 1.0, "usual": 2.0, "old": 60.0})
    later = 400.0
    policy.completed("fast", 1.0, 1, later)
    policy.completed("usual", 2.0, 1, later)
    assert policy._pace_of("old", policy._pace.usual(), 100.0) == pytest.approx(30.0)
    assert policy._pace_of("old", policy._pace.usual(), later) == pytest.approx(1.0, abs=0.1)


def test_response_time_notices_a_stuck_replica() -> None:
    """A replica whose requests don't end is avoided before the first one has ended."""
    policy = timed({"a": 1.0, "stuck": 1.0})
    loads = [Load("a", 2, 0.5), Load("stuck", 1, 60.0)]
    assert policy.rank(None, loads, 100.0, seeded(0))[0] == "a"


@given(ongoing=LOADS, key=st.binary(min_size=1, max_size=16), factor=st.floats(1.0, 3.0))
def test_prefix_aware_keeps_the_load_bound(ongoing: dict[str, int], key: bytes, factor: float) -> None:
    """Whoever is first has, with this request, no more than ceil(c * (total + 1) / n)."""
    best = PrefixAware(factor).rank(key, loads_of(ongoing), 0.0, seeded(0))[0]
    assert ongoing[best] + 1 <= math.ceil(factor * (sum(ongoing.values()) + 1) / len(ongoing))


@given(count=st.integers(1, 8), keys=st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_prefix_aware_keeps_the_load_bound_for_ever(count: int, keys: list[int]) -> None:
    """However few the keys are, requests that all go on spread so that nobody exceeds the bound."""
    policy, ongoing = PrefixAware(), dict.fromkeys((f"r{number}" for number in range(count)), 0)
    for key in keys:
        ongoing[policy.rank(b"%d" % key, loads_of(ongoing), 0.0, seeded(0))[0]] += 1
    assert max(ongoing.values()) <= math.ceil(1.25 * len(keys) / count)


@given(
    key=st.binary(min_size=1, max_size=16), names=st.sets(st.text("abc", min_size=1), min_size=1, max_size=9)
)
def test_prefix_aware_sends_a_key_home(key: bytes, names: set[str]) -> None:
    """With loads within the bound a key always goes to the same replica, in whatever order they are listed."""
    rank = PrefixAware().rank
    first = rank(key, [Load(name, 0) for name in sorted(names)], 0.0, seeded(1))
    assert rank(key, [Load(name, 0) for name in sorted(names, reverse=True)], 9.0, seeded(2)) == first
    assert first[0] == home(key, names)
    assert first == preference(key, names)


@pytest.mark.parametrize("count", [2, 8, 63])
def test_prefix_aware_moves_few_keys_when_a_replica_comes(count: int) -> None:
    """Of n replicas a new one gets about 1/(n+1) of the keys, and no key moves between old ones."""
    old = [f"replica-{number}" for number in range(count)]
    keys = [b"%d" % number for number in range(4000)]
    moved = 0
    for key in keys:
        before, after = home(key, old), home(key, [*old, "new"])
        assert after in (before, "new")
        moved += after != before
    expected = len(keys) / (count + 1)
    assert abs(moved - expected) < 5 * math.sqrt(expected)


@given(
    key=st.binary(min_size=1, max_size=16), names=st.sets(st.text("abc", min_size=1), min_size=2, max_size=9)
)
def test_prefix_aware_keeps_the_order_of_those_who_stay(key: bytes, names: set[str]) -> None:
    """When a replica leaves, only its own keys move, each to the next one in its order."""
    gone = min(names)
    stay = [name for name in preference(key, names) if name != gone]
    assert preference(key, names - {gone}) == stay


def test_prefix_aware_without_a_key_is_least_loaded() -> None:
    """Texts to embed have no conversation: they go where there is least to do."""
    ranked = PrefixAware().rank(None, loads_of({"a": 2, "b": 0, "c": 1}), 0.0, seeded(0))
    assert ranked == ["b", "c", "a"]


def test_prefix_aware_puts_those_beyond_the_bound_last() -> None:
    """They are named all the same, least loaded first: the others may be full."""
    loads = loads_of({"a": 9, "b": 8, "c": 0})
    assert bound(loads, 1.25) == 8
    assert PrefixAware().rank(b"key", loads, 0.0, seeded(0)) == ["c", "b", "a"]


def test_a_load_factor_below_one_is_refused() -> None:
    """No replica could be within such a bound."""
    with pytest.raises(ValueError, match=r"load_factor is 0\.9; it must be at least 1"):
        PrefixAware(0.9)
