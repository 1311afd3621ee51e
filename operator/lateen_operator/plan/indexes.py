# SPDX-License-Identifier: Apache-2.0
"""What a RAGIndex becomes: which collection is live, whether a build is due, what the status says. Pure.

expected collection = hash(parsing, pipeline, chunking, store, embedder's revision)
no report, or another fingerprint  -> a build job fills it, incrementally where it exists
first complete report              -> the alias moves to it
gateway serves it                  -> older collections go
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import ValidationError

from lateen_api import catalog, names
from lateen_api.conditions import ConditionType, Reason
from lateen_api.index_build import BuildReport, BuildRequest, SourceFailureReason, SourceReport
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.rag_index import RAGIndexSpec
from lateen_operator.plan import pushes, schedules
from lateen_operator.plan.problems import describe
from lateen_operator.plan.world import World
from lateen_operator.seams import Key, Kind, PushState, Resource
from lateen_operator.status import Report, Verdict, timestamp, unix

SOURCE_FAILURES = frozenset(get_args(SourceFailureReason))


@dataclass(frozen=True)
class IndexPlan:
    """Where one RAGIndex stands."""

    entry: catalog.Index | None
    """Its place in the catalog; None while no collection can be queried."""
    spec: RAGIndexSpec | None = None
    embedder: catalog.Model | None = None
    """The embedder that new builds use; None while there is none."""
    collection: str | None = None
    """The collection the spec asks for; None while the embedder is not known."""
    problem: Verdict | None = None
    """Why the spec can't be followed now."""
    unranked: Verdict | None = None
    """Why passages are not reranked; the index is built and answers all the same."""


def plan(resource: Resource, world: World, models: Sequence[catalog.Model]) -> IndexPlan:
    """Which collection queries of `resource` should use, given the models that take traffic."""
    if resource.deleting:
        return IndexPlan(None)
    present = _present_entry(resource, world)
    try:
        spec = _spec(resource)
    except ValueError as error:
        return IndexPlan(present, problem=Verdict("False", Reason.INVALID_SPEC, str(error)))
    if spec.suspend:
        verdict = Verdict(
            "True" if present else "False", Reason.SUSPENDED, "spec.suspend is true: no syncing"
        )
        return IndexPlan(_with_retrieval(resource, present, spec), spec, problem=verdict)
    embedder, problem = _embedder(resource, spec, world, models)
    problem = problem or _missing_secret(resource, spec, world)
    if embedder is None or problem is not None:
        return IndexPlan(_with_retrieval(resource, present, spec), spec, problem=problem)
    collection = _collection(resource, spec, embedder)
    is_live = world.store.aliases.get(alias(resource)) == collection
    if is_live and collection in world.store.collections:
        entry: catalog.Index | None = _entry(resource, spec, embedder, collection)
    else:
        entry = _with_retrieval(resource, present, spec)
    return IndexPlan(entry, spec, embedder, collection, unranked=_unranked(resource, spec, world))


def _spec(resource: Resource) -> RAGIndexSpec:
    try:
        spec = RAGIndexSpec.model_validate(resource.spec)
    except ValidationError as error:
        raise ValueError(describe(error)) from error
    if spec.schedule:
        schedules.check(spec.schedule)
    return spec


def alias(resource: Resource) -> str:
    """The Weaviate alias of `resource`."""
    return names.index_alias(resource.key.namespace, resource.key.name, resource.uid)


def prefix(resource: Resource) -> str:
    """What the names of all collections of `resource` start with."""
    return names.index_prefix(resource.key.namespace, resource.key.name, resource.uid)


def _collection(resource: Resource, spec: RAGIndexSpec, embedder: catalog.Model) -> str:
    key = resource.key
    return names.index_collection(key.namespace, key.name, resource.uid, spec.revision(embedder.revision))


def _embedder(
    resource: Resource, spec: RAGIndexSpec, world: World, models: Sequence[catalog.Model]
) -> tuple[catalog.Model | None, Verdict | None]:
    name = spec.embedding.model_ref.name
    key = Key(Kind.MODEL_DEPLOYMENT, resource.key.namespace, name)
    found = next((model for model in world.models if model.key == key), None)
    where = f"spec.embedding.modelRef: ModelDeployment {name!r}"
    if found is None:
        return None, Verdict("False", Reason.REFERENCE_NOT_FOUND, f"{where} does not exist in this namespace")
    if found.spec.get("task") != "embed":
        return None, Verdict(
            "False",
            Reason.INCOMPATIBLE,
            f"{where} has task: {found.spec.get('task')}; use one with task: embed",
        )
    wanted = names.client_id(key.namespace, name)
    entry = next((model for model in models if model.id == wanted), None)
    if entry is None or entry.revision != _wanted_revision(found, entry):
        return None, Verdict("False", Reason.REFERENCE_NOT_READY, f"{where} is not Ready")
    return entry, None


def _unranked(resource: Resource, spec: RAGIndexSpec, world: World) -> Verdict | None:
    """What is wrong with the reference to the reranker."""
    if spec.retrieval.rerank is None:
        return None
    name = spec.retrieval.rerank.model_ref.name
    key = Key(Kind.MODEL_DEPLOYMENT, resource.key.namespace, name)
    found = next((model for model in world.models if model.key == key), None)
    where = f"spec.retrieval.rerank.modelRef: ModelDeployment {name!r}"
    if found is None:
        message = f"{where} does not exist in this namespace; passages are not reranked"
        return Verdict("False", Reason.REFERENCE_NOT_FOUND, message)
    if found.spec.get("task") != "rerank":
        message = f"{where} has task: {found.spec.get('task')}; use one with task: rerank"
        return Verdict("False", Reason.INCOMPATIBLE, message)
    return None


def _reranker(resource: Resource, spec: RAGIndexSpec) -> str | None:
    rerank = spec.retrieval.rerank
    return names.client_id(resource.key.namespace, rerank.model_ref.name) if rerank else None


def _missing_secret(resource: Resource, spec: RAGIndexSpec, world: World) -> Verdict | None:
    for source in spec.sources:
        if source.secret is not None and (resource.key.namespace, source.secret) in world.missing_secrets:
            message = f"spec.sources[{source.name}]: there is no Secret {source.secret!r} in this namespace."
            return Verdict("False", Reason.REFERENCE_NOT_FOUND, message)
    return None


def _wanted_revision(model: Resource, entry: catalog.Model) -> str:
    # While a new revision of the embedder starts, building with the old one would be work for the bin.
    try:
        spec = ModelDeploymentSpec.model_validate(model.spec)
    except ValidationError:
        return entry.revision
    return entry.revision if spec.suspend else spec.revision()


def _entry(resource: Resource, spec: RAGIndexSpec, embedder: catalog.Model, collection: str) -> catalog.Index:
    return catalog.Index(
        id=names.client_id(resource.key.namespace, resource.key.name),
        alias=alias(resource),
        collection=collection,
        revision=spec.revision(embedder.revision),
        embedder=embedder.id,
        embedder_revision=embedder.revision,
        embedder_application=embedder.application,
        retrieval=spec.retrieval,
        reranker=_reranker(resource, spec),
        pushed=pushes.entry(resource, spec),
        created=resource.created,
    )


def _present_entry(resource: Resource, world: World) -> catalog.Index | None:
    """The deployed catalog's entry, as long as its collection and its embedder are still there."""
    wanted = names.client_id(resource.key.namespace, resource.key.name)
    deployed = world.deployed_catalog
    for entry in deployed.indexes if deployed else []:
        if (
            entry.id == wanted
            and entry.collection in world.store.collections
            and entry.embedder_application in world.serve.applications
        ):
            return entry
    return None


def _with_retrieval(
    resource: Resource, entry: catalog.Index | None, spec: RAGIndexSpec
) -> catalog.Index | None:
    if entry is None:
        return None
    told = {"retrieval": spec.retrieval, "pushed": pushes.entry(resource, spec)}
    return entry.model_copy(update=told | {"reranker": _reranker(resource, spec)})


def due(resource: Resource, spec: RAGIndexSpec, now: float) -> float:
    """Unix time of the schedule's last tick since the resource exists; 0 when there was none."""
    if spec.schedule is None:
        return 0.0
    tick = schedules.tick(spec.schedule, now, following=False)
    return tick if tick > resource.created else 0.0


def fingerprint(
    resource: Resource,
    spec: RAGIndexSpec,
    config_maps: Mapping[str, Mapping[str, bytes]],
    now: float,
    pushed: PushState | None = None,
) -> str:
    """Identifies what is to be indexed now: sources, ConfigMaps' content, what was pushed, the tick, the annotation."""
    content = {
        "sources": spec.dump()["sources"],
        "sync": spec.dump()["sync"],
        "configMaps": {
            source: {key: names.key_digest(value.decode("latin-1")) for key, value in files.items()}
            for source, files in config_maps.items()
        },
        "tick": int(due(resource, spec, now)),
        "asked": resource.annotations.get(names.SYNC_ANNOTATION, ""),
    }
    if pushed is not None:
        content["pushed"] = pushed.state
    return names.revision(content)


def request(resource: Resource, made: IndexPlan, wanted: str) -> BuildRequest:
    """The build that brings `made.collection` to fingerprint `wanted`."""
    assert made.spec is not None
    assert made.embedder is not None
    assert made.collection is not None
    return BuildRequest(
        id=names.client_id(resource.key.namespace, resource.key.name),
        namespace=resource.key.namespace,
        collection=made.collection,
        fingerprint=wanted,
        sources=made.spec.sources,
        sync=made.spec.sync,
        asked=resource.annotations.get(names.SYNC_ANNOTATION, ""),
        parsing=made.spec.parsing,
        pipeline=made.spec.pipeline,
        chunking=made.spec.chunking,
        store=made.spec.store,
        pushed=pushes.collection(resource, made.spec),
        embedder_application=made.embedder.application,
        embedder=made.embedder.id,
        embedder_revision=made.embedder.revision,
    )


def may_go_live(build: BuildReport, *, replaces: bool) -> bool:
    """Whether the alias may move to a built collection: never to less than is already live because a source is down."""
    if replaces:
        return not any(failure.reason in SOURCE_FAILURES for failure in build.failures)
    return build.documents > 0 or build.failed == 0


def retry_due(build: BuildReport, now: float, unready_for: float) -> bool:
    """Whether sources that could not be read should be tried again: after 5 s, then ever less often, at most 5 min."""
    if not any(failure.reason in SOURCE_FAILURES for failure in build.failures):
        return False
    return now - unix(build.finished_at) >= min(max(5.0, unready_for / 2), 300.0)


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
    again: float | None = None
    unindexed: float | None = None
    """Unix time of the oldest pushed change that queries don't see; None: there is none."""


def report(resource: Resource, made: IndexPlan, builds: BuildState, world: World) -> Report:
    """What the status of `resource` says."""
    settled = _verdict(made, builds, world)
    more = _synced(builds.live)
    return replace(settled, fields=_fields(resource, made, builds, world), more=more)


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


def _fields(resource: Resource, made: IndexPlan, builds: BuildState, world: World) -> dict[str, Any]:
    entry, live, newest = made.entry, builds.live, builds.built or builds.live
    fields: dict[str, Any] = {
        "vectorStoreId": names.client_id(resource.key.namespace, resource.key.name),
        "revision": entry.revision if entry else None,
        "collection": entry.collection if entry else None,
        "nextSyncTime": _next_sync(made.spec, world.now),
        "lastHandledSync": newest.asked or None if newest else None,
    }
    if builds.building and made.spec and made.embedder:
        fields["building"] = made.spec.revision(made.embedder.revision)
    return fields | (
        _counts(live, due(resource, made.spec, unix(live.finished_at)), builds.unindexed)
        if live and made.spec
        else {}
    )


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
        "fingerprint": live.fingerprint,
        "lastSyncTime": live.finished_at,
        "lag": f"{max(0, round(unix(live.finished_at) - since))}s",
    }


def lags(resources: Iterable[Resource], now: float) -> Iterator[tuple[Key, float]]:
    """Of each index the seconds since the oldest change that its status says can't be found; 0 for none."""
    for resource in resources:
        since = resource.status.get("oldestUnindexedChange")
        yield resource.key, max(0.0, now - unix(since)) if since else 0.0


def _source(source: SourceReport, live: BuildReport) -> dict[str, Any]:
    failure = next((item for item in live.failures if item.document == source.name), None)
    why = {"reason": failure.reason, "message": failure.message} if failure is not None else {}
    return source.dump() | why
