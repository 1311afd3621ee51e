# SPDX-License-Identifier: Apache-2.0
"""What a RAGIndex becomes: which collection it wants, which one queries use, what is to be indexed. Pure.

`index_gate.py` judges builds, `index_history.py` keeps earlier revisions, `index_status.py` tells it.

expected collection = hash(parsing, pipeline, chunking, store, embedder's revision)
no report, or another fingerprint  -> a build job fills it, incrementally where it exists
complete report that passes        -> the alias moves to it
gateway serves it                  -> older collections go, but for the history
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from lateen_api import catalog, names
from lateen_api.conditions import Reason
from lateen_api.index_build import BuildRequest, Recall
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.rag_index import RAGIndexSpec
from lateen_operator.plan import pushes, schedules
from lateen_operator.plan.problems import describe
from lateen_operator.plan.world import World
from lateen_operator.seams import Key, Kind, PushState, Resource
from lateen_operator.status import Verdict


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

    @property
    def is_live(self) -> bool:
        """Whether queries go to the collection that the spec asks for."""
        return self.entry is not None and self.entry.collection == self.collection


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


def as_is(resource: Resource, world: World) -> IndexPlan:
    """What is deployed of `resource` already, for which no plan can be made."""
    return IndexPlan(None if resource.deleting else _present_entry(resource, world))


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
    """The deployed catalog's entry, as long as its collection and its embedder are, for all we know, still there.

    The alias tells it from that of an earlier resource of the same name, whose collections may have been retained.
    """
    wanted = alias(resource)
    deployed = world.deployed_catalog
    for entry in deployed.indexes if deployed else []:
        if (
            entry.alias == wanted
            and (world.store.problem or entry.collection in world.store.collections)
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
        **spec.synced(),
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


def request(resource: Resource, made: IndexPlan, wanted: str, measured: Recall | None) -> BuildRequest:
    """The build that brings `made.collection`, of which `measured` is known, to fingerprint `wanted`."""
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
        quality=made.spec.quality,
        live=made.is_live,
        measured=measured,
        pushed=pushes.collection(resource, made.spec),
        embedder_application=made.embedder.application,
        embedder=made.embedder.id,
        embedder_revision=made.embedder.revision,
    )
