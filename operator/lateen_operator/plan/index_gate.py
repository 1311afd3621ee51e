# SPDX-License-Identifier: Apache-2.0
"""Whether a built collection may take the queries, and whether it is worth trying again. Pure; called by `reconcile/`.

Builds report figures; what they have to be is compared here, so that another `spec.quality.minRecall` decides at once.
"""

from collections.abc import Iterable
from typing import get_args

from lateen_api.conditions import Reason
from lateen_api.index_build import BuildReport, DocumentFailure, Recall, SourceFailureReason
from lateen_api.rag_index import RAGIndexSpec
from lateen_api.rag_sources import Source
from lateen_operator.plan.indexes import IndexPlan
from lateen_operator.status import Verdict, unix

SOURCE_FAILURES = frozenset(get_args(SourceFailureReason))


def held(made: IndexPlan, built: BuildReport | None) -> Verdict | None:
    """Why a complete build does not go live; None where it may, where it has, and where there is none."""
    if built is None or made.spec is None or made.is_live:
        return None
    return _incomplete(built, replaces=made.entry is not None) or unfit(made.spec, built)


def _incomplete(build: BuildReport, *, replaces: bool) -> Verdict | None:
    """Queries never go to less than what they get already because a source is down."""
    lacking = [failure for failure in build.failures if _is_of_source(failure)]
    if replaces:
        if not lacking:
            return None
        first = lacking[0]
    elif build.documents > 0 or build.failed == 0:
        return None
    else:
        first = lacking[0] if lacking else build.failures[0]
    reason = Reason(first.reason) if first.reason in SOURCE_FAILURES else Reason.DOCUMENTS_FAILED
    return Verdict("False", reason, f"{first.document}: {first.message}")


def _is_of_source(failure: DocumentFailure) -> bool:
    """Whether a whole source is missing, for any reason, or a document for one that may heal."""
    return failure.reason in SOURCE_FAILURES or "/" not in failure.document


def unfit(spec: RAGIndexSpec, build: BuildReport) -> Verdict | None:
    """What is wrong with the collection of `build`, with the figures and what helps; None: nothing that is known."""
    found = build.quality
    if found is None:
        return None
    if found.dimension not in (None, found.expected):
        message = (
            f"the collection's vectors have {found.dimension} dimensions, the embedder's {found.expected}: delete"
            " the collection in Weaviate, it is built anew."
        )
    elif found.objects != build.chunks:
        message = (
            f"the collection holds {found.objects} passages, its ledger {build.chunks}; the next synchronization"
            " compares and repairs them."
        )
    elif found.recall is not None and _below(found.recall, spec):
        message = _low(found.recall, spec)
    else:
        return None
    return Verdict("False", Reason.QUALITY_CHECK_FAILED, message)


def _below(recall: Recall, spec: RAGIndexSpec) -> bool:
    return recall.value < float(spec.quality.min_recall) - 1e-9


def _low(recall: Recall, spec: RAGIndexSpec) -> str:
    store = spec.store
    finer = "compression: rq or none" if store.compression in ("bq", "pq") else "compression: none"
    ways = [finer] if store.compression != "none" else []
    ways += ["vectorIndex: flat, which is exact"] if store.vector_index != "flat" else []
    remedy = f"set spec.store.{' or '.join(ways)}, or a lower minRecall" if ways else "set a lower minRecall"
    return (
        f"searches find {recall.value:.4f} of the {recall.k} nearest passages (recall@{recall.k} against an exact"
        f" search, {recall.samples} samples); spec.quality.minRecall asks for {spec.quality.min_recall}: {remedy}."
    )


def measured(made: IndexPlan, built: BuildReport | None) -> Recall | None:
    """The recall that need not be measured again; of a collection without queries it must be as the spec asks."""
    known = built.quality.recall if built is not None and built.quality is not None else None
    if built is None or known is None or made.spec is None or made.is_live:
        return known
    if _is_broken(built):
        return None  # only a whole look sees passages without a right vector
    wanted = made.spec.quality
    return known if (known.asked, known.k) == (wanted.samples, wanted.k) else None


def retry_due(made: IndexPlan, build: BuildReport, now: float, unready_for: float) -> bool:
    """Whether another build could help: sources may answer again, a repair may do, recall may not be known.

    It is tried after 5 s, then ever less often, at most every 5 min.
    """
    is_source = any(
        failure.reason in SOURCE_FAILURES or (not made.is_live and _is_of_source(failure))
        for failure in build.failures
    )
    if not is_source and not _is_broken(build) and (made.is_live or measured(made, build) is not None):
        return False
    return now - unix(build.finished_at) >= min(max(5.0, unready_for / 2), 300.0)


def behind(made: IndexPlan, build: BuildReport, kept: Iterable[BuildReport | None]) -> bool:
    """Whether queries went back to a collection that was synchronized before a `kept` one: since then sources may have
    changed, which no fingerprint tells of those that are read from elsewhere.
    """
    if made.spec is None or not made.is_live or all(_is_told(source) for source in made.spec.sources):
        return False
    return any(unix(other.started_at) > unix(build.started_at) for other in kept if other is not None)


def _is_told(source: Source) -> bool:
    """Whether the fingerprint changes whenever the content of `source` does."""
    return any(each is not None for each in (source.inline, source.config_map, source.push))


def _is_broken(build: BuildReport) -> bool:
    found = build.quality
    return found is not None and found.objects != build.chunks
