# SPDX-License-Identifier: Apache-2.0
"""Wiring: settings to the three edges, leader election, then watches, work queue and resync. Run by `__main__.py`.

start --health server--> waiting for the Lease --leading--> list everything --> watch, reconcile, resync
SIGTERM or SIGINT: finish what is under way, release the Lease, exit 0
Lease lost, or a part ends by itself: stop at once, exit 1
"""

import asyncio
import contextlib
import signal
import socket
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import kopf
import structlog

from lateen_operator import cluster, handlers, health
from lateen_operator.cache import ResourceCache
from lateen_operator.informer import Informer
from lateen_operator.leader import Election, LeadershipLost, Terms
from lateen_operator.metrics import Metrics
from lateen_operator.plan import index_status
from lateen_operator.ray import RayServe
from lateen_operator.reconcile.reconciler import Reconciler
from lateen_operator.revision_watch import RevisionWatch
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Key, Kind, Unavailable, Wish
from lateen_operator.settings import OperatorSettings
from lateen_operator.weaviate import WeaviateStore
from lateen_operator.workqueue import WorkQueue

GRACE_SECONDS = 15.0
"""How long reconciles under way may take to finish at a graceful exit; repeating them is safe."""

STOP_SECONDS = 3.0
"""How long cancelled parts are waited for: shorter than what is left of a Lease that could not be renewed."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a leading operator is made of."""

    settings: OperatorSettings
    metrics: Metrics
    vitals: health.Vitals
    informer: Informer
    queue: WorkQueue
    reconciler: Reconciler
    revision_watch: RevisionWatch


async def run(settings: OperatorSettings) -> int:
    """Run one operator to its end; the exit code."""
    stop = asyncio.Event()
    metrics = Metrics()
    vitals = health.Vitals(time.monotonic, settings.watch_stale_seconds)
    async with contextlib.AsyncExitStack() as stack:
        pages = health.application(vitals, metrics)
        port = await stack.enter_async_context(
            health.serving(pages, settings.health_host, settings.health_port)
        )
        log.info("health is served", host=settings.health_host, port=port)
        kube = await stack.enter_async_context(
            cluster.connect(settings.namespace, settings.watch_namespaces, metrics.requested)
        )
        serve = await stack.enter_async_context(RayServe(settings))
        store = await stack.enter_async_context(WeaviateStore(settings))
        _listen(stop)
        parts = _assemble(settings, metrics, vitals, kube, serve, store)
        return await _elected(parts, Election(kube, _terms(settings), time.monotonic), stop)


def _assemble(
    settings: OperatorSettings,
    metrics: Metrics,
    vitals: health.Vitals,
    kube: cluster.KubernetesCluster,
    serve: RayServe,
    store: WeaviateStore,
) -> Parts:
    cache, revisions = ResourceCache(), Revisions(kube, settings.watch_namespaces)

    async def measured(key: Key) -> Wish:
        began, failed = time.monotonic(), True
        try:
            wish = await reconciler.reconcile(key)
            failed = False
        finally:
            metrics.reconciled(key.kind, time.monotonic() - began, failed=failed)
        return wish

    queue = WorkQueue(measured, asyncio.get_running_loop(), settings.concurrency)
    reconciler = Reconciler(kube, serve, store, cache, revisions, settings, time.time, queue.add)
    vitals.longest_reconcile = queue.longest_active
    metrics.follow(lambda: queue.depth, vitals.watch_age)
    metrics.follow_lag(lambda: index_status.lags(cache.of_kind(Kind.RAG_INDEX), time.time()))
    informer = Informer(kube, cache, revisions, queue.add, vitals, metrics)
    revision_watch = RevisionWatch(kube, revisions, informer)
    return Parts(settings, metrics, vitals, informer, queue, reconciler, revision_watch)


async def _elected(parts: Parts, election: Election, stop: asyncio.Event) -> int:
    """Wait for the Lease, lead, give it up."""
    try:
        if await _first(stop.wait(), election.acquire()) == 0:
            return 0
        return await _lead(parts, election, stop)
    except LeadershipLost as error:
        log.error("no longer the leader", reason=str(error))
        return 1
    finally:
        parts.metrics.leading(False)
        await election.release()


async def _lead(parts: Parts, election: Election, stop: asyncio.Event) -> int:
    parts.metrics.leading(True)
    parts.vitals.lead()
    # Nothing is reconciled before everything was listed once: half a picture would look like deletions.
    if await _first(stop.wait(), election.hold(), _list_all(parts)) == 0:
        return 0
    parts.vitals.synced = True
    ended = await _first(
        _graceful(parts, stop),
        election.hold(),
        parts.queue.run(),
        _resync(parts),
        parts.revision_watch.run(),
        _watch(parts, stop),
    )
    if ended == 0:
        return 0
    log.error("a part of the operator ended by itself")
    return 1


async def _graceful(parts: Parts, stop: asyncio.Event) -> None:
    await stop.wait()
    log.info("stopping")
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await parts.queue.drain()
    except TimeoutError:
        log.warning("reconciles were cut short", seconds=GRACE_SECONDS)


async def _list_all(parts: Parts) -> None:
    while not await parts.informer.resync():
        parts.vitals.resynced()
        await asyncio.sleep(parts.settings.lease_retry_seconds)


async def _resync(parts: Parts) -> None:
    while True:
        try:
            await parts.reconciler.resync()
        except Unavailable as error:
            log.warning("the world could not be compared", error=str(error))
        except Exception:  # as in the work queue: it is tried again, and whatever else works goes on
            log.exception("comparing the world failed")
        parts.vitals.resynced()
        await asyncio.sleep(parts.settings.resync_seconds)
        await parts.informer.resync()


async def _watch(parts: Parts, stop: asyncio.Event) -> None:
    namespaces = parts.settings.watch_namespaces
    ignored = asyncio.all_tasks()  # kopf ends all tasks of the loop but these
    tasks = await kopf.spawn_tasks(
        registry=handlers.registry(parts.informer.seen),
        settings=handlers.settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    _listen(stop)  # kopf took the signals for itself
    await kopf.run_tasks(tasks, ignored=ignored)


async def _first(*jobs: Coroutine[Any, Any, Any]) -> int:
    """Which of `jobs` ended first; the others are cancelled, and its error is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(number for number, task in enumerate(tasks) if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    tasks[ended].result()
    return ended


def _listen(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _terms(settings: OperatorSettings) -> Terms:
    return Terms(
        namespace=settings.namespace,
        name=settings.lease_name,
        identity=f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        lease_seconds=settings.lease_seconds,
        renew_seconds=settings.lease_renew_seconds,
        retry_seconds=settings.lease_retry_seconds,
    )
