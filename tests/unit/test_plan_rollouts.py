# SPDX-License-Identifier: Apache-2.0
"""How a new revision takes over: tables of worlds and moves; and which differences of a config count."""

from dataclasses import replace
from typing import Any

import pytest

from lateen_api import catalog
from lateen_api.gateway_report import LATENCY_BOUNDS, Traffic
from lateen_api.scaling import Rollout, RolloutAbort
from lateen_operator.plan import rollouts, serving
from lateen_operator.seams import ServeApplication, StoredRevision

CANARY = Rollout.model_validate(
    {"strategy": "Canary", "steps": [{"weight": 10, "pause": "60s"}, {"weight": 50, "pause": "30s"}]}
)
SINCE = 1000
STORED = StoredRevision("chat-md-b", "uid", 2, "b", {}, 0)


def entry(revision: str, **more: Any) -> catalog.Model:
    """A model in the catalog."""
    return catalog.Model(
        id="chat", task="generate", revision=revision, application=f"default_chat_{revision}",
        created=0, request_timeout_seconds=60, **more,
    )  # fmt: skip


def canary(weight: int) -> catalog.Canary:
    """The new revision at a weight since `SINCE`."""
    return catalog.Canary(revision="b", application="default_chat_b", weight=weight, since=SINCE)


def change(weight: int = 0, seconds: float = 0, status: str = "RUNNING", **more: Any) -> rollouts.Change:
    """A change from a to b, some seconds after the present weight began."""
    main = entry("a", canary=canary(weight)) if weight else entry("a")
    present = ServeApplication("default_chat_b", status, "", 0.0, {}, 1)
    base = rollouts.Change(CANARY, entry("b"), present, main, STORED, main, False, Traffic(), SINCE + seconds)
    return replace(base, **more)


@pytest.mark.parametrize(
    ("given", "weight", "words"),
    [
        (change(status="DEPLOYING"), 0, "revision b is starting"),
        (change(stored=None), 0, "revision b is starting"),
        (change(), 10, "takes 10 % of the requests, step 1 of 2"),
        (change(10, 59), 10, "step 1 of 2"),
        (change(10, 60), 50, "step 2 of 2"),
        (change(10, 60, served=None), 10, "step 1 of 2"),
        (change(10, 60, served=entry("a", canary=canary(5))), 10, "step 1 of 2"),
        (change(10, 60, status="DEPLOYING"), 10, "step 1 of 2"),
        (change(50, 29), 50, "step 2 of 2"),
        (change(33, 500), 10, "step 1 of 2"),
    ],
)
def test_a_canary_goes_from_step_to_step(given: rollouts.Change, weight: int, words: str) -> None:
    """By time, seen by the gateway, and from the first one when the steps were changed."""
    move = rollouts.move(given)
    assert move.entry is not None
    assert move.entry.revision == "a"
    assert (move.entry.canary.weight if move.entry.canary else 0) == weight
    assert words in move.words


def test_after_the_last_step_the_new_revision_is_the_model() -> None:
    """Without a canary, and nothing more to tell."""
    assert rollouts.move(change(50, 30)) == rollouts.Move(entry("b"))


def test_a_step_keeps_its_beginning() -> None:
    """The same world gives the same catalog, so that a settled step writes nothing; a new step begins now."""
    move = rollouts.move(change(10, 30))
    assert move.entry is not None
    assert move.entry.canary == canary(10)
    onward = rollouts.move(change(10, 61.7))
    assert onward.entry is not None
    assert onward.entry.canary is not None
    assert onward.entry.canary.since == SINCE + 61


@pytest.mark.parametrize("status", ["UNHEALTHY", "DEPLOY_FAILED"])
def test_a_canary_that_falls_over_is_given_up(status: str) -> None:
    """Whatever its requests looked like."""
    move = rollouts.move(change(10, 5, status=status))
    assert move.entry == entry("a")
    assert not move.start
    assert "its replicas fail" in move.abort


def test_a_canary_that_was_given_up_does_not_start() -> None:
    """Its ControllerRevision remembers."""
    move = rollouts.move(change(stored=replace(STORED, aborted="slow")))
    assert (move.entry, move.start, move.abort) == (entry("a"), False, "")


@pytest.mark.parametrize(
    ("strategy", "status", "pinned", "revision", "start"),
    [
        ("Immediate", "DEPLOYING", False, "a", True),
        ("Immediate", "RUNNING", False, "b", True),
        ("Recreate", "DEPLOYING", False, "b", False),
        ("Recreate", "DEPLOYING", True, "a", True),
        ("Recreate", "RUNNING", False, "b", True),
    ],
)
def test_the_other_strategies_go_in_one_step(
    strategy: Any, status: str, pinned: bool, revision: str, start: bool
) -> None:
    """Immediate runs both for a while; Recreate runs one, which requests wait for, unless an index needs the old one."""
    move = rollouts.move(change(status=status, rollout=Rollout(strategy=strategy), pinned=pinned))
    assert move.entry.revision == revision
    assert move.start == start


def slow(bucket: int, count: int) -> list[int]:
    """That many requests in one latency bucket."""
    return [count if number == bucket else 0 for number in range(len(LATENCY_BOUNDS) + 1)]


@pytest.mark.parametrize(
    ("traffic", "limits", "bad"),
    [
        (Traffic(requests=100, errors=5), RolloutAbort(), False),
        (Traffic(requests=100, errors=6), RolloutAbort(), True),
        (Traffic(requests=9, errors=9), RolloutAbort(), False),
        (Traffic(requests=10, errors=1), RolloutAbort(max_error_ratio="0"), True),
        (Traffic(requests=10, latencies=slow(18, 10)), RolloutAbort(), False),
        (Traffic(requests=10, latencies=slow(8, 10)), RolloutAbort(max_latency_p95="2s"), False),
        (Traffic(requests=10, latencies=slow(9, 10)), RolloutAbort(max_latency_p95="2s"), True),
        (Traffic(requests=10, latencies=slow(18, 10)), RolloutAbort(max_latency_p95="2m"), True),
        (Traffic(requests=10, errors=10), RolloutAbort(max_error_ratio="1"), False),
    ],
)
def test_requests_are_judged_by_the_limits(traffic: Traffic, limits: RolloutAbort, bad: bool) -> None:
    """More than the limit is a breach, and too few requests are none."""
    assert bool(rollouts.breach(traffic, limits)) == bad


@pytest.mark.parametrize(
    ("present", "wanted", "same"),
    [
        ({"num_replicas": 1, "filled_in": 3}, {"num_replicas": 1}, True),
        ({"num_replicas": 1}, {"num_replicas": 2}, False),
        ({"user_config": {"a": 1, "gone": 2}}, {"user_config": {"a": 1}}, False),
        ({"args": {"secret": "x"}}, {"args": {}}, False),
        ({"deployments": [{"a": 1}]}, {"deployments": [{"a": 1}, {"b": 1}]}, False),
        ({}, {"initial_replicas": None}, False),
    ],
)
def test_what_is_gone_from_a_config_is_a_difference_where_ray_adds_nothing(
    present: dict[str, Any], wanted: dict[str, Any], same: bool
) -> None:
    """Defaults that Ray fills in are none; a canary that has left the catalog is one."""
    assert serving.contains(present, wanted) == same
