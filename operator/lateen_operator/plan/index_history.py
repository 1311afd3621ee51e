# SPDX-License-Identifier: Apache-2.0
"""The history of an index: which ControllerRevisions and collections are kept, and which go. Pure.

A revision is written down when queries go to its collection. What was never live is no history: such a collection
goes as soon as the spec asks for another one. `reconcile/indexes.py` writes and deletes, `lateen history` and
`lateen rollback` read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lateen_api import catalog, names
from lateen_api.conditions import Reason
from lateen_api.index_build import BuildReport
from lateen_api.rag_index import MAX_KEPT_REVISIONS, REVISED, RAGIndexSpec
from lateen_operator.plan import indexes
from lateen_operator.plan.indexes import IndexPlan
from lateen_operator.plan.world import World
from lateen_operator.seams import Event, Resource, StoredRevision
from lateen_operator.status import timestamp


@dataclass(frozen=True)
class HistoryPlan:
    """What to do about the revisions of one index."""

    live: StoredRevision | None = None
    """The one that queries use, if it is written down."""
    kept: tuple[StoredRevision, ...] = ()
    """Earlier ones whose collections stay, newest first."""
    store: Mapping[str, Any] | None = None
    """Content of the live revision, to be written down; None: it is."""
    number: int = 0
    """The number it gets."""
    renumber: str = ""
    """Name of the ControllerRevision that is live again and becomes the newest; empty: none."""
    forget: tuple[str, ...] = ()
    """Names of those whose collections are gone."""


def plan(resource: Resource, made: IndexPlan, world: World) -> HistoryPlan:
    """Keep the live revision as the newest, and as many earlier ones as the spec says."""
    stored = world.kept(resource)
    current = made.entry.revision if made.entry else ""
    live = next((item for item in stored if item.revision == current), None)
    wanted = made.spec.revision(made.embedder.revision) if made.spec and made.embedder else ""
    earlier = [item for item in stored if item.revision not in (current, wanted)]
    there = [item for item in earlier if collection(resource, item) in world.store.collections]
    if made.spec is None or made.embedder is None:
        return HistoryPlan(live, tuple(there))
    kept = tuple(there[: made.spec.revision_history_limit])
    forget = tuple(item.name for item in earlier if item not in there)
    newest = max((item.number for item in stored), default=0)
    if not made.is_live:
        return HistoryPlan(live, kept, forget=forget)
    if live is None:
        written = content(made.spec, made.embedder)
        return HistoryPlan(live, kept, store=written, number=newest + 1, forget=forget)
    again = live.name if live.number < newest else ""
    return HistoryPlan(live, kept, number=newest + 1, renumber=again, forget=forget)


def content(spec: RAGIndexSpec, embedder: catalog.Model) -> dict[str, Any]:
    """What a ControllerRevision holds: all of the spec that alters vectors or passages, and whose vectors they are."""
    whole = spec.dump()
    return {name: whole[name] for name in REVISED} | {"embedder": {"revision": embedder.revision}}


def collection(resource: Resource, item: StoredRevision) -> str:
    """The collection of a revision."""
    return names.index_collection(resource.key.namespace, resource.key.name, resource.uid, item.revision)


def unused(resource: Resource, made: IndexPlan, history: HistoryPlan, world: World) -> Sequence[str]:
    """Collections of `resource` that neither queries nor the spec nor the history need; none while that can't be known."""
    if made.collection is None or world.reachable is None:
        return ()
    queried = {entry.collection for each in world.reachable for entry in each.indexes}
    pointed = world.store.aliases.get(indexes.alias(resource))
    needed = {made.collection, pointed, *(collection(resource, item) for item in history.kept)}
    if made.entry is not None:
        needed.add(made.entry.collection)
    needed |= {
        names.ledger_collection(name) for name in needed if name
    }  # one may be left alone: it is then believed
    return sorted(set(collections(resource, world)) - queried - needed)


def collections(resource: Resource, world: World) -> list[str]:
    """All collections of passages of `resource`, live or not; each has a ledger beside it."""
    start = f"{indexes.prefix(resource)}_r"
    ledgers = {names.ledger_collection(name) for name in world.store.collections}
    return sorted(name for name in world.store.collections if name.startswith(start) and name not in ledgers)


def retained(resource: Resource, world: World) -> Event | None:
    """What is told of collections that stay when `resource` is deleted; None: they go, or there is none.

    Also a spec that can't be read otherwise is obeyed here.
    """
    there, key = collections(resource, world), resource.key
    pushed = names.pushed_collection(key.namespace, key.name, resource.uid)
    has_pushed = pushed in world.store.collections
    if resource.spec.get("deletionPolicy") != "Retain" or not (there or has_pushed):
        return None
    live = world.store.aliases.get(indexes.alias(resource))
    listed = sorted(there, key=lambda name: name != live)
    shown = ", ".join(f"{name} (live)" if name == live else name for name in listed)
    parts = [f"each with its _ledger: {shown}"] if there else []
    parts += [f"what clients pushed: {pushed}"] if has_pushed else []
    return Event("Normal", Reason.RETAINED.value, f"still in Weaviate, {'; '.join(parts)}")


def rows(
    resource: Resource, history: HistoryPlan, reports: Mapping[str, BuildReport | None]
) -> list[dict[str, Any]]:
    """`status.revisions`: the live one and the kept ones, newest first."""
    listed = [history.live] if history.live else []
    shown = [*listed, *history.kept][: MAX_KEPT_REVISIONS + 1]
    return [_row(resource, item, history, reports) for item in shown]


def _row(
    resource: Resource,
    item: StoredRevision,
    history: HistoryPlan,
    reports: Mapping[str, BuildReport | None],
) -> dict[str, Any]:
    name = collection(resource, item)
    report = reports.get(name)
    row: dict[str, Any] = {
        "revision": item.revision,
        "collection": name,
        "createdAt": timestamp(item.created),
        "live": item is history.live,
    }
    return row | ({"documents": report.documents} if report else {})
