# SPDX-License-Identifier: Apache-2.0
"""What a synchronization says of each source: to the operator, and to the next synchronization. Pure; called by `sync.py`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from lateen_api.index_build import DocumentFailure, SourceFailureReason, SourceReport
from lateen_serving.rag import cursors
from lateen_serving.rag.cursors import Kept
from lateen_serving.rag.protocol import Entry, Loaded

_SOURCE_FAILURES = frozenset(get_args(SourceFailureReason))

MAX_CURSOR = 128
"""Characters of a cursor that the report shows."""


@dataclass
class Counts:
    """Documents by source."""

    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)


def kept(
    settings: str,
    before: Kept | None,
    loaded: Loaded | None,
    ledger: Mapping[str, Entry],
    failures: Sequence[DocumentFailure],
    now: str,
) -> Kept:
    """What the next synchronization may know of the source; `loaded` is None when it could not be read.

    `failures` are those of its documents, or the one of the source.
    """
    if loaded is None:
        old = before or Kept(settings=settings)
        return old.model_copy(update={"pending_since": old.pending_since or old.read_at or now})
    if loaded.unchanged and before is not None:
        return before.model_copy(update={"read_at": now, "pending_since": None})
    failed = {failure.document for failure in failures}
    # What is indexed of a document that failed is of an older version than this one.
    good = [document for document in loaded.documents if document.id not in failed]
    return Kept(
        settings=settings,
        state=dict(loaded.state),
        documents=cursors.documents(good, ledger),
        whole=not failures,
        read_at=now,
        pending_since=_pending(before, loaded, failures, now),
        position=loaded.position[:MAX_CURSOR],
    )


def _pending(
    before: Kept | None, loaded: Loaded, failures: Sequence[DocumentFailure], now: str
) -> str | None:
    if not failures:
        return None
    failed = {failure.document for failure in failures}
    times = [item.updated_at for item in loaded.documents if item.id in failed and item.updated_at]
    known = before.pending_since if before is not None else None
    return min([*times, *filter(None, [known])], default=now)


def report(
    name: str,
    after: Kept,
    loaded: Loaded | None,
    documents: int,
    failures: Sequence[DocumentFailure],
    counts: Counts,
) -> SourceReport:
    """What the operator is told; `documents` are those of the source that are indexed."""
    return SourceReport(
        name=name,
        documents=documents,
        changed=counts.changed[name],
        removed=counts.removed[name],
        failed=len(failures),
        left_out=loaded.left_out if loaded is not None else 0,
        cursor=after.position or None,
        read_at=after.read_at,
        pending_since=after.pending_since,
    )


def rank(failure: DocumentFailure) -> tuple[bool, bool, str]:
    """Sorts failures: first those of whole sources, which decide about going live, and of documents whose source may answer
    again; a report lists only some of them.
    """
    return "/" in failure.document, failure.reason not in _SOURCE_FAILURES, failure.document


def of_source(failures: Sequence[DocumentFailure], name: str) -> list[DocumentFailure]:
    """The failures of one source and its documents."""
    return [failure for failure in failures if failure.document.split("/", 1)[0] == name]
