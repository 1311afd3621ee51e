# SPDX-License-Identifier: Apache-2.0
"""The routers in Ray's own hands: Ray's classes route, send and count; only the replicas and the controller are made up."""

import asyncio
import importlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from ray import cloudpickle
from ray.serve.config import RequestRouterConfig

from lateen_api.scaling import RoutingStrategy
from lateen_api.serve_config import ROUTER_CLASS
from lateen_serving.errors import ContextTooLong, ModelError
from lateen_serving.routing import routers, steering
from lateen_serving.routing.prefix import key
from lateen_serving.routing.prefix_aware import home
from lateen_serving.routing.routers import StrategyRouter
from lateen_serving.routing.watching import watch
from unit.routing_fakes import FakeReplica, FakeResult, Harness


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[RoutingStrategy], Harness]]:
    """Makes harnesses and ends what they started."""
    made: list[Harness] = []

    def create(kind: RoutingStrategy) -> Harness:
        made.append(Harness(kind, monkeypatch))
        return made[-1]

    yield create
    for harness in made:
        shutdown: Any = harness.ray.shutdown
        tasks = [*harness.calls, *harness.router._routing_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, shutdown(), return_exceptions=True)


async def settled() -> None:
    """Everything that can happen now has happened."""
    for _ in range(30):
        await asyncio.sleep(0)


def say(text: str, *more: str) -> dict[str, object]:
    """A conversation."""
    return {"messages": [{"role": "user", "content": part} for part in (text, *more)]}


KINDS = get_args(RoutingStrategy)
Make = Callable[[RoutingStrategy], Harness]


def test_ray_finds_the_router_by_name() -> None:
    """What the operator writes into the Serve config is a class that Ray can import and hand to the gateway."""
    config = RequestRouterConfig.model_validate({"request_router_class": ROUTER_CLASS})
    module, _, name = ROUTER_CLASS.rpartition(".")
    assert config.get_request_router_class() is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_of_one_moment_spread(kind: RoutingStrategy, make: Make) -> None:
    """Each request sees those before it, though none has left yet, and though all have one id."""
    harness, replicas = make(kind), [FakeReplica(f"r{number}") for number in range(4)]
    harness.have(*replicas)
    await settled()
    await asyncio.gather(*[harness.call(say(f"question {number}")) for number in range(8)])
    assert max(replica.ongoing for replica in replicas) <= 3
    assert sum(replica.ongoing for replica in replicas) == 8
    if kind != "PrefixAware":
        assert [replica.ongoing for replica in replicas] == [2, 2, 2, 2]
    assert harness.counts(*replicas) == [replica.ongoing for replica in replicas]


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_wait_for_a_free_replica_and_then_go_at_once(
    kind: RoutingStrategy, make: Make
) -> None:
    """Nothing is lost while all replicas are full; a request that ends makes room for exactly one."""
    harness, replicas = make(kind), [FakeReplica("a", 1), FakeReplica("b", 1)]
    harness.router.update_backoff_params(60.0, 1.0, 60.0)
    harness.have(*replicas)
    await settled()
    calls = [harness.call(say(str(number)), f"id-{number}") for number in range(5)]
    for done in range(2, 5):
        await settled()
        assert sum(call.done() for call in calls) == done
        assert all(replica.ongoing == 1 for replica in replicas)
        next(result for replica in replicas for result in replica.results if not result.is_over).end()
    await settled()
    assert all(call.done() for call in calls)


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_wait_while_there_is_no_replica(kind: RoutingStrategy, make: Make) -> None:
    """Scaled to zero and back: what came in the meantime is answered, in a second round as well."""
    harness = make(kind)
    for name in ("a", "b"):
        harness.have()
        calls = [harness.call(say(str(number))) for number in range(3)]
        await settled()
        assert not any(call.done() for call in calls)
        replica = FakeReplica(name)
        harness.have(replica)
        await asyncio.gather(*calls)
        assert replica.ongoing == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_books_are_empty_when_all_requests_are_over(kind: RoutingStrategy, make: Make) -> None:
    """Answered, refused, cancelled before and after they were sent, not sent at all: nothing stays behind."""
    harness, replicas = make(kind), [FakeReplica("a", 2), FakeReplica("b", 2)]
    harness.have(*replicas)
    await settled()
    await asyncio.gather(*[harness.call(say(str(number)), f"sent-{number}") for number in range(4)])
    waiting = [harness.call(say(str(number)), f"waits-{number}") for number in range(3)]
    await settled()
    waiting[1].cancel()
    await settled()
    replicas[0].answers.clear()
    replicas[1].answers.clear()
    for replica in replicas:
        for result in list(replica.results):
            result.end()
    await settled()
    for call in waiting:
        call.cancel()
    await settled()
    for replica in replicas:
        replica.answers.set()
        replica.is_broken = True
    harness.router.update_backoff_params(0.001, 1.0, 0.001)
    unlucky = harness.call(say("unlucky"))
    await settled()
    unlucky.cancel()
    await settled()
    for replica in replicas:
        for result in list(replica.results):
            result.end()
    await settled()
    assert harness.counts(*replicas) == [0, 0]
    assert not harness.router._assigned
    assert not harness.router._balancer._ledger._reserved
    assert not getattr(harness.router, "_keys", {})


async def test_a_replica_full_of_others_requests_is_not_chosen(make: Make) -> None:
    """A refusal sends the request elsewhere, and the refusing replica counts as full."""
    harness, replicas = make("LeastLoaded"), [FakeReplica("a"), FakeReplica("b")]
    harness.have(*replicas)
    await settled()
    replicas[0].others = 4
    for number in range(4):
        await harness.call(say(str(number)), f"id-{number}")
    assert replicas[1].ongoing == 4
    assert replicas[0].ongoing == 0


async def test_a_dead_replica_is_forgotten_and_its_requests_are_not_held_against_another(make: Make) -> None:
    """A replica that dies leaves no counts; its successor starts from none."""
    harness, first = make("LeastLoaded"), FakeReplica("a")
    harness.have(first)
    await harness.call(say("x"))
    harness.router.on_replica_actor_died(first.replica_id)
    second = FakeReplica("b")
    harness.have(second)
    await settled()
    first.results[0].end()
    await settled()
    assert harness.counts(first, second) == [0, 0]
    await harness.call(say("y"))
    assert second.ongoing == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_replica_that_answers_with_errors_attracts_no_requests(
    kind: RoutingStrategy, make: Make
) -> None:
    """Failing is quick and leaves nothing ongoing; no strategy takes that for a virtue."""
    harness, replicas = make(kind), [FakeReplica("good", 40), FakeReplica("bad", 40)]
    now = 0.0
    harness.router._clock = lambda: now
    harness.have(*replicas)
    await settled()
    chosen, ends = Counter[str](), list[tuple[float, FakeResult]]()
    for number in range(100):
        now += 0.1
        while ends and ends[0][0] <= now:
            ends.pop(0)[1].end()
        await settled()
        result = await harness.call(say(str(number)), f"id-{number}")
        chosen[result._replica.replica_id.unique_id] += 1
        if result._replica is replicas[1]:
            result.message = error_message(RuntimeError("broken"))
            await result._get_internal()
            result.end()
        else:
            ends.append((now + 1.0, result))
        await settled()
    assert chosen["bad"] <= (50 if kind == "RoundRobin" else 40)


async def test_a_conversation_stays_while_requests_wait(make: Make) -> None:
    """When all replicas are full, the one that becomes free gets a request that prefers it, the oldest such one."""
    harness, replicas = make("PrefixAware"), [FakeReplica("a", 1), FakeReplica("b", 1)]
    harness.have(*replicas)
    await settled()
    texts = {name: [text for text in map(str, range(60)) if at_home(text) == name] for name in "ab"}
    await asyncio.gather(harness.call(say(texts["a"][0])), harness.call(say(texts["b"][0])))
    assert [replica.ongoing for replica in replicas] == [1, 1]
    asked = [harness.call(say(text, "more"), text) for text in [*texts["a"][:2], *texts["b"][:2]]]
    await settled()
    for replica, expected in [(1, 2), (1, 3), (0, 0), (0, 1)]:
        replicas[replica].results[-1].end()
        await settled()
        assert asked[expected].done()
        assert asked[expected].result()._replica is replicas[replica]


async def test_nobody_waits_for_ever_for_the_replica_it_prefers(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that has waited long enough takes whatever is free."""
    harness, replicas = make("PrefixAware"), [FakeReplica("a", 1), FakeReplica("b", 1)]
    harness.have(*replicas)
    await settled()
    texts = {name: [text for text in map(str, range(60)) if at_home(text) == name] for name in "ab"}
    await asyncio.gather(harness.call(say(texts["a"][0])), harness.call(say(texts["b"][0])))
    oldest = harness.call(say(texts["a"][1]))
    younger = harness.call(say(texts["b"][1]))
    await settled()
    late = time.time() + routers.PATIENCE_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: late)
    replicas[1].results[-1].end()
    await settled()
    assert oldest.done()
    assert not younger.done()


def error_message(error: Exception) -> Any:
    """An error as Ray sends it."""
    dumps: Any = cloudpickle.dumps
    return SimpleNamespace(is_error=True, serialized_message=dumps(error))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (error_message(RuntimeError("broken")), [True]),
        (error_message(ModelError("broken")), [True]),
        (error_message(ContextTooLong("long", param="messages")), [False]),
        (SimpleNamespace(is_error=True, serialized_message=b"?"), [True]),
        (SimpleNamespace(is_error=False), []),
    ],
)
async def test_errors_are_told_once_and_with_whose_fault_they_are(message: Any, expected: list[bool]) -> None:
    """A caller's mistake is not held against the replica that found it."""
    told: list[bool] = []
    result: Any = FakeResult(FakeReplica("a"), accepted=True)
    result.message = message
    watch(result, told.append)
    assert await result._get_internal() is message
    assert await result._get_internal() is message
    assert told == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [(StopAsyncIteration(), []), (asyncio.CancelledError(), []), (ConnectionError(), [True])],
)
async def test_a_broken_connection_is_a_failure(error: BaseException, expected: list[bool]) -> None:
    """What goes wrong on the way is the replica's fault too; the end of a stream and a cancellation are not."""
    told: list[bool] = []

    async def receive() -> None:
        raise error

    result: Any = SimpleNamespace(_get_internal=receive)
    watch(result, told.append)
    with pytest.raises((type(error), RuntimeError)):
        await result._get_internal()
    assert told == expected


def at_home(text: str) -> str:
    """The replica that a conversation which opens with `text` prefers."""
    opening = key(say(text))
    assert opening is not None
    return home(opening, "ab")


async def test_calls_without_a_conversation_go_to_the_least_loaded(make: Make) -> None:
    """Texts to embed spread evenly under PrefixAware too."""
    harness, replicas = make("PrefixAware"), [FakeReplica("a"), FakeReplica("b")]
    harness.have(*replicas)
    await settled()
    await asyncio.gather(*[harness.call(["the same text"]) for _ in range(6)])
    assert [replica.ongoing for replica in replicas] == [3, 3]


async def test_a_live_router_takes_another_strategy(make: Make) -> None:
    """The next request goes where the new strategy sends it, and no ongoing request is forgotten."""
    harness, replicas = make("RoundRobin"), [FakeReplica("a"), FakeReplica("b")]
    handle: Any = SimpleNamespace(_router=SimpleNamespace(_asyncio_router=harness.ray))
    harness.have(*replicas)
    await settled()
    await asyncio.gather(*[harness.call(say("hello")) for _ in range(2)])
    assert [replica.ongoing for replica in replicas] == [1, 1]
    replicas[0].results[0].end()
    await settled()
    await steering.steered(handle, "LeastLoaded")
    await harness.call(say("hello"))
    assert [replica.ongoing for replica in replicas] == [1, 1]


async def test_the_first_request_follows_too(make: Make) -> None:
    """A request that comes before the controller has told what runs waits, and then goes as the strategy says."""
    harness, replicas = make("LeastLoaded"), [FakeReplica("a"), FakeReplica("b")]
    late: Any = harness.unmade()
    handle: Any = SimpleNamespace(_router=SimpleNamespace(_asyncio_router=late))
    first = asyncio.create_task(steering.steered(handle, "PrefixAware"))
    await settled()
    assert not first.done()
    assert late._request_router is None
    late.update_deployment_targets(SimpleNamespace(is_available=True, running_replicas=replicas))
    late._request_router_class = StrategyRouter
    assert late.request_router is not None
    await first
    assert late.request_router._strategy == "PrefixAware"


async def test_a_handle_without_a_router_is_left_alone() -> None:
    """Where Ray keeps its router elsewhere, requests are routed all the same."""
    handle: Any = SimpleNamespace(_router=None)
    await steering.steered(handle, "PrefixAware")
