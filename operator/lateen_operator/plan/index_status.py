# SPDX-License-Identifier: Apache-2.0
"""What the status of a RAGIndex says. Pure; called by `reconcile/indexes.py`."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lateen_api import catalog, names
from lateen_api.conditions import ConditionType, Reason
from lateen_api.index_build import BuildReport, QualityReport, SourceReport
from lateen_api.rag_index import RAGIndexSpec
from lateen_operator.plan import index_history, pushes, schedules
from lateen_operator.plan.index_gate import SOURCE_FAILURES, unfit
from lateen_operator.plan.index_history import HistoryPlan
from lateen_operator.plan.indexes import IndexPlan, due
from lateen_operator.plan.world import World
from lateen_operator.seams import Key, Resource
from lateen_operator.status import Report, Verdict, timestamp, unix

_TELLING_SHARE = 10
"""A build that embeds less than one of so many tokens of the index spends its time on other things."""


@dataclass(frozen=True)
class BuildState:
    """What the executor found out about the builds of one index."""

    live: BuildReport | None = None
    """Report of the collection that queries use."""
    built: BuildReport | None = None
    """Report of the wanted collection, which may be held back from queries."""
    building: bool = False
    """A job is at work, or about to be."""
    failure: Verdict | None = None
    """Why the last job failed."""
    fingerprint: str = ""
    """What is to be indexed now."""
    stopping: bool = False
    """A job of another revision may be at work: its collection would come back if it were deleted now."""
    kept: dict[str, BuildReport | None] = field(default_factory=dict)
    """Reports of the earlier collections that are kept, by collection."""
    again: float | None = None
    unindexed: float | None = None
    """Unix time of the oldest pushed change that queries don't see; None: there is none."""


def report(
    resource: Resource, made: IndexPlan, builds: BuildState, world: World, history: HistoryPlan
) -> Report:
    """What the status of `resource` says."""
    settled = _verdict(made, builds, world)
    more = _synced(builds.live)
    return replace(settled, fields=_fields(resource, made, builds, world, history), more=more)


def _verdict(made: IndexPlan, builds: BuildState, world: World) -> Report:
    keeps = f" Revision {made.entry.revision} keeps answering." if made.entry else ""
    problem = made.problem
    if problem is not None and problem.reason is Reason.SUSPENDED:
        return Report(problem)
    if problem is not None:
        waiting = problem.reason is Reason.REFERENCE_NOT_READY
        verdict = Verdict("False", problem.reason, problem.message + keeps)
        return Report(verdict, reconciling=waiting, stalled=not waiting, again=1.0 if waiting else 5.0)
    if builds.failure is not None:
        verdict = Verdict("False", builds.failure.reason, builds.failure.message + keeps)
        return Report(verdict, stalled=True, again=builds.again or 2.0)
    entry = made.entry
    if entry is None or entry.collection != made.collection:
        return Report(
            Verdict("False", Reason.BUILDING, f"building {made.collection}.{keeps}"), True, again=1.0
        )
    served = world.answering
    if served is None or entry not in served.indexes:
        verdict = Verdict("False", Reason.PROGRESSING, "waiting for the gateway to take the catalog")
        return Report(verdict, reconciling=True, again=0.3)
    return _served(made, builds)


def _served(made: IndexPlan, builds: BuildState) -> Report:
    live = builds.live
    if live is None:
        return Report(Verdict("False", Reason.BUILDING, "the first build is under way"), True, again=1.0)
    if live.failed:
        first = live.failures[0]
        source = first.reason in SOURCE_FAILURES
        reason = Reason(first.reason) if source else Reason.DOCUMENTS_FAILED
        message = f"{live.failed} not indexed; {first.document}: {first.message} The rest answers."
        return Report(Verdict("False", reason, message), stalled=True, again=builds.again)
    low = unfit(made.spec, live) if made.spec else None
    if low is not None:
        answers = f"{low.message} The index answers all the same."
        return Report(replace(low, message=answers), stalled=True, again=builds.again)
    if made.unranked is not None:
        return Report(made.unranked, stalled=True, again=5.0)
    verdict = Verdict("True", Reason.READY, f"{live.documents} documents in {live.chunks} passages")
    return Report(verdict, reconciling=builds.building, again=1.0 if builds.building else builds.again)


def _synced(live: BuildReport | None) -> dict[ConditionType, Verdict]:
    if live is None:
        return {}
    if live.failed:
        message = f"{live.failed} not indexed, see status.failures"
        return {ConditionType.SYNCED: Verdict("False", Reason.DOCUMENTS_FAILED, message)}
    return {ConditionType.SYNCED: Verdict("True", Reason.SYNCED, "every document is indexed")}


def _fields(
    resource: Resource, made: IndexPlan, builds: BuildState, world: World, history: HistoryPlan
) -> dict[str, Any]:
    entry, live, newest = made.entry, builds.live, builds.built or builds.live
    fields: dict[str, Any] = {
        "vectorStoreId": names.client_id(resource.key.namespace, resource.key.name),
        "revision": entry.revision if entry else None,
        "collection": entry.collection if entry else None,
        "revisions": index_history.rows(resource, history, builds.kept | _live(entry, live)) or None,
        "nextSyncTime": _next_sync(made.spec, world.now),
        "lastHandledSync": newest.asked or None if newest else None,
    }
    if live is not None and entry is not None:
        fields["embedding"] = _embedding(resource, entry.embedder, live)
    if builds.building and made.spec and made.embedder:
        fields["building"] = made.spec.revision(made.embedder.revision)
    return fields | (
        _counts(live, due(resource, made.spec, unix(live.finished_at)), builds.unindexed)
        if live and made.spec
        else {}
    )


def _live(entry: catalog.Index | None, live: BuildReport | None) -> dict[str, BuildReport | None]:
    return {entry.collection: live} if entry else {}


def _embedding(resource: Resource, embedder: str, live: BuildReport) -> dict[str, Any] | None:
    """The speed of the live collection's last build; the one known before where that build says little about it."""
    if live.embedded_tokens == 0 or live.embedded_tokens * _TELLING_SHARE < live.tokens:
        known: dict[str, Any] | None = resource.status.get("embedding")
        return known
    return {
        "embedder": embedder,
        "passages": live.embedded,
        "tokens": live.embedded_tokens,
        "seconds": max(1, math.ceil(unix(live.finished_at) - unix(live.started_at))),
    }


def _next_sync(spec: RAGIndexSpec | None, now: float) -> str | None:
    if spec is None or spec.schedule is None or spec.suspend:
        return None
    return timestamp(schedules.tick(spec.schedule, now, following=True))


def _counts(live: BuildReport, tick: float, unindexed: float | None) -> dict[str, Any]:
    started = unix(live.started_at)
    since = tick if started - tick < 3600 else started
    return {
        "documents": live.documents,
        "chunks": live.chunks,
        "tokens": live.tokens,
        "failed": live.failed,
        "failures": [failure.dump() for failure in live.failures] or None,
        "sources": [_source(source, live) for source in live.sources] or None,
        "oldestUnindexedChange": pushes.oldest(live, unindexed),
        "pipeline": live.pipeline.dump(),
        "quality": _quality(live.quality) if live.quality else None,
        "fingerprint": live.fingerprint,
        "lastSyncTime": live.finished_at,
        "lag": f"{max(0, round(unix(live.finished_at) - since))}s",
    }


def _quality(found: QualityReport) -> dict[str, Any]:
    figures = {"objects": found.objects, "dimension": found.dimension}
    if found.recall is None:
        return _known(figures)
    measured = {"samples": found.recall.samples, "k": found.recall.k}
    return _known(figures | measured | {"recall": f"{found.recall.value:.4f}"})


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def lags(resources: Iterable[Resource], now: float) -> Iterator[tuple[Key, float]]:
    """Of each index the seconds since the oldest change that its status says can't be found; 0 for none."""
    for resource in resources:
        since = resource.status.get("oldestUnindexedChange")
        yield resource.key, max(0.0, now - unix(since)) if since else 0.0


def _source(source: SourceReport, live: BuildReport) -> dict[str, Any]:
    failure = next((item for item in live.failures if item.document == source.name), None)
    why = {"reason": failure.reason, "message": failure.message} if failure is not None else {}
    return source.dump() | why
