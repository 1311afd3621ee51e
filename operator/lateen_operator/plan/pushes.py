# SPDX-License-Identifier: Apache-2.0
"""What a RAGIndex does with documents that clients push. Pure; used by `indexes.py` and `reconcile/builds.py`."""

from lateen_api import catalog, names
from lateen_api.index_build import BuildReport
from lateen_api.quantities import quantity
from lateen_api.rag_index import RAGIndexSpec
from lateen_operator.seams import PushState, Resource
from lateen_operator.status import timestamp, unix

LOOK_SECONDS = 5.0
"""How often an index looks whether something was pushed: no event tells of it."""


def entry(resource: Resource, spec: RAGIndexSpec) -> catalog.Pushed | None:
    """What the gateway is told; None where the spec has no source `push`."""
    source = next((source.name for source in spec.sources if source.push is not None), None)
    if source is None:
        return None
    key = resource.key
    return catalog.Pushed(
        source=source,
        collection=names.pushed_collection(key.namespace, key.name, resource.uid),
        max_document_bytes=int(quantity(spec.parsing.max_document_bytes)),
        keeps=spec.sync.delete_policy == "Keep",
    )


def collection(resource: Resource, spec: RAGIndexSpec) -> str | None:
    """Where it is written what was pushed; None where the spec has no source `push`."""
    found = entry(resource, spec)
    return found.collection if found is not None else None


def unindexed(live: BuildReport | None, pushed: PushState) -> float | None:
    """Unix time of the oldest change that the live collection lacks; None: it lacks none."""
    if live is None or pushed.state in [source.cursor for source in live.sources]:
        return None
    # A change that no row tells of any more happened before it: the end of the last build is late enough for sure.
    return pushed.oldest if pushed.oldest is not None else unix(live.finished_at)


def has_more(built: BuildReport, spec: RAGIndexSpec, pushed: PushState | None) -> bool:
    """Whether a build has read something else than is there, although what was asked for is there again.

    So it is when a document was pushed and deleted while the build ran that has read it.
    """
    source = next((source.name for source in spec.sources if source.push is not None), None)
    found = next((each for each in built.sources if each.name == source), None)
    if pushed is None or found is None or found.read_at != built.started_at:
        return False  # not read at all: that is tried again as with any source
    return found.cursor != pushed.state


def oldest(live: BuildReport, unindexed: float | None) -> str | None:
    """When the first change was made that the live collection lacks, of those that are known; RFC 3339."""
    pending = [source.pending_since for source in live.sources if source.pending_since is not None]
    pending += [timestamp(unindexed)] if unindexed is not None else []
    return min(pending, key=unix, default=None)
