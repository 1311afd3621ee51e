# SPDX-License-Identifier: Apache-2.0
"""The routers in Ray's own hands: Ray's classes route, send and count; only the replicas and the controller are made up."""

import asyncio
import importlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorUnavailableError
from ray.serve._private import router as ray_router
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    ReplicaQueueLengthInfo,
    RequestMetadata,
)
from ray.serve._private.router import AsyncioRouter
from ray.serve._private.usage import ServeUsageTag
from ray.serve.config import RequestRouterConfig

from lateen_api.serve_config import ROUTER_CLASSES
from lateen_serving.routing import renewal, routers
from lateen_serving.routing.prefix import key
from lateen_serving.routing.prefix_aware import home
from lateen_serving.routing.routers import (
    BalancedRouter,
    LeastLoadedRouter,
    PrefixAwareRouter,
    RoundRobinRouter,
)

DEPLOYMENT = DeploymentID(name="model", app_name="app")


class FakeResult:
    """What Ray holds of a request that was sent: it is accepted or refused, and ends when the test says so."""

    def __init__(self, replica: "FakeReplica", *, accepted: bool) -> None:
        self._replica, self._accepted = replica, accepted
        self._callbacks: list[Callable[[Any], None]] = []
        self.is_over = False
        self.message: Any = SimpleNamespace(is_error=False)

    async def get_rejection_response(self) -> ReplicaQueueLengthInfo:
        await self._replica.answers.wait()
        return ReplicaQueueLengthInfo(self._accepted, self._replica.ongoing + self._replica.others)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def _get_internal(self) -> Any:
        return self.message

    def cancel(self) -> None:
        self.end()

    def end(self) -> None:
        """The request is over."""
        if self.is_over:
            return
        self.is_over = True
        self._replica.ongoing -= self._accepted
        for callback in self._callbacks:
            callback(None)


class FakeReplica:
    """A replica as a router sees it."""

    is_cross_language = False
    actor_id = None
    multiplexed_model_ids: frozenset[str] = frozenset()
    node_id = "node"
    availability_zone = None

    def __init__(self, name: str, most: int = 4) -> None:
        self.replica_id = ReplicaID(unique_id=name, deployment_id=DEPLOYMENT)
        self.max_ongoing_requests = most
        self.ongoing = 0
        self.others = 0
        self.probes = 0
        self.is_broken = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.results: list[FakeResult] = []

    def update_replica_info(self, info: "FakeReplica") -> None:
        """Ray hands over news of a known replica."""

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.probes += 1
        return self.ongoing + self.others

    def try_send_request(self, pending: Any, with_rejection: bool) -> FakeResult:
        if self.is_broken:
            raise ActorUnavailableError("gone", None)
        accepted = self.ongoing + self.others < self.max_ongoing_requests
        self.ongoing += accepted
        result = FakeResult(self, accepted=accepted)
        self.results.append(result)
        return result


class Harness:
    """Ray's AsyncioRouter, with the request router made by Ray's own code."""

    def __init__(self, kind: type[BalancedRouter], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_router, "LongPollClient", lambda *_, **__: None)
        shared = SimpleNamespace(register=lambda _: None)
        monkeypatch.setattr(ray_router.SharedRouterLongPollClient, "get_or_create", lambda *_: shared)
        context = SimpleNamespace(get_actor_id=lambda: None, get_worker_id=lambda: "worker")
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(ray_router, "RunningReplica", lambda info: info)
        monkeypatch.setattr(ServeUsageTag.CUSTOM_REQUEST_ROUTER_USED, "record", lambda _: None)
        nobody: Any = None
        self.ray = AsyncioRouter(
            controller_handle=nobody,
            deployment_id=DEPLOYMENT,
            handle_id="handle",
            self_actor_id="actor",
            handle_source=DeploymentHandleSource.REPLICA,
            event_loop=asyncio.get_running_loop(),
            enable_strict_max_ongoing_requests=True,
            node_id="node",
            availability_zone=None,
            prefer_local_node_routing=False,
            request_router_class=kind,
            _request_router_initialized_event=asyncio.Event(),
        )
        router = self.ray._active_request_router
        assert type(router) is kind
        self.router: BalancedRouter = router
        self.calls: list[asyncio.Task[Any]] = []

    def have(self, *replicas: FakeReplica) -> None:
        """The controller says who runs."""
        running: list[Any] = list(replicas)
        self.router._update_running_replicas(running)

    def call(self, request: object = None, name: str = "id") -> asyncio.Task[Any]:
        """Send a request as a handle does; the result is Ray's."""
        metadata = RequestMetadata(request_id=name, internal_request_id=name, call_method="generate")
        task = asyncio.create_task(self.ray.assign_request(metadata, request))
        self.calls.append(task)
        return task

    def counts(self, *replicas: FakeReplica) -> list[int]:
        """How many requests the books have for each replica."""
        now = self.router._clock()
        return [
            self.router._balancer._ledger.ongoing(replica.replica_id.unique_id, now) for replica in replicas
        ]


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[type[BalancedRouter]], Harness]]:
    """Makes harnesses and ends what they started."""
    made: list[Harness] = []

    def create(kind: type[BalancedRouter]) -> Harness:
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


KINDS = [getattr(routers, path.rpartition(".")[2]) for path in ROUTER_CLASSES.values()]
Make = Callable[[type[BalancedRouter]], Harness]


@pytest.mark.parametrize("path", ROUTER_CLASSES.values())
def test_ray_finds_the_routers_by_name(path: str) -> None:
    """What the operator writes into the Serve config is a class that Ray can import and hand to the gateway."""
    config = RequestRouterConfig.model_validate({"request_router_class": path})
    module, _, name = path.rpartition(".")
    assert config.get_request_router_class() is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_of_one_moment_spread(kind: type[BalancedRouter], make: Make) -> None:
    """Each request sees those before it, though none has left yet, and though all have one id."""
    harness, replicas = make(kind), [FakeReplica(f"r{number}") for number in range(4)]
    harness.have(*replicas)
    await settled()
    await asyncio.gather(*[harness.call(say(f"question {number}")) for number in range(8)])
    assert max(replica.ongoing for replica in replicas) <= 3
    assert sum(replica.ongoing for replica in replicas) == 8
    if kind is not PrefixAwareRouter:
        assert [replica.ongoing for replica in replicas] == [2, 2, 2, 2]
    assert harness.counts(*replicas) == [replica.ongoing for replica in replicas]


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_wait_for_a_free_replica_and_then_go_at_once(
    kind: type[BalancedRouter], make: Make
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
async def test_requests_wait_while_there_is_no_replica(kind: type[BalancedRouter], make: Make) -> None:
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
async def test_books_are_empty_when_all_requests_are_over(kind: type[BalancedRouter], make: Make) -> None:
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
    harness, replicas = make(LeastLoadedRouter), [FakeReplica("a"), FakeReplica("b")]
    harness.have(*replicas)
    await settled()
    replicas[0].others = 4
    for number in range(4):
        await harness.call(say(str(number)), f"id-{number}")
    assert replicas[1].ongoing == 4
    assert replicas[0].ongoing == 0


async def test_a_dead_replica_is_forgotten_and_its_requests_are_not_held_against_another(make: Make) -> None:
    """A replica that dies leaves no counts; its successor starts from none."""
    harness, first = make(LeastLoadedRouter), FakeReplica("a")
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
    kind: type[BalancedRouter], make: Make
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
            result.message.is_error = True
            await result._get_internal()
            result.end()
        else:
            ends.append((now + 1.0, result))
        await settled()
    assert chosen["bad"] <= (50 if kind is RoundRobinRouter else 40)


async def test_a_conversation_stays_while_requests_wait(make: Make) -> None:
    """When all replicas are full, the one that becomes free gets a request that prefers it, the oldest such one."""
    harness, replicas = make(PrefixAwareRouter), [FakeReplica("a", 1), FakeReplica("b", 1)]
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
    harness, replicas = make(PrefixAwareRouter), [FakeReplica("a", 1), FakeReplica("b", 1)]
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


def at_home(text: str) -> str:
    """The replica that a conversation which opens with `text` prefers."""
    opening = key(say(text))
    assert opening is not None
    return home(opening, "ab")


async def test_calls_without_a_conversation_go_to_the_least_loaded(make: Make) -> None:
    """Texts to embed spread evenly under PrefixAware too."""
    harness, replicas = make(PrefixAwareRouter), [FakeReplica("a"), FakeReplica("b")]
    harness.have(*replicas)
    await settled()
    await asyncio.gather(*[harness.call(["the same text"]) for _ in range(6)])
    assert [replica.ongoing for replica in replicas] == [3, 3]


async def test_a_handle_is_outdated_when_its_deployment_names_another_router(make: Make) -> None:
    """Ray tells a handle of the new class but never makes it; a new handle has to."""
    harness = make(LeastLoadedRouter)
    handle: Any = SimpleNamespace(_router=SimpleNamespace(_asyncio_router=harness.ray))
    assert not renewal.is_outdated(handle)
    harness.ray._request_router_class = PrefixAwareRouter
    assert harness.ray.request_router is harness.router
    assert renewal.is_outdated(handle)


def test_a_handle_that_was_never_used_is_not_outdated() -> None:
    """Its router will be made by what is configured then."""
    handle: Any = SimpleNamespace(_router=None)
    assert not renewal.is_outdated(handle)
