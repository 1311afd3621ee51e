# SPDX-License-Identifier: Apache-2.0
"""A plan of `lateen plan` in words. Pure; called by `index_plan.py`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lateen_api.index_change import Change, FieldChange, SourceChange, Work

_SUMMARIES = {
    "None": "nothing would change.",
    "InPlace": "takes effect at once; no source is read and nothing is embedded.",
    "Sync": "sources are read again; what changed in them is embedded, in the live collection.",
    "Rebuild": "a new collection is built beside the live one, which answers until the new one can.",
    "Create": "the first collection is built; until then there is nothing to find.",
}
_SOURCES = {
    "Added": "is read, and all it holds is embedded",
    "Changed": "is read again; documents whose content and address are as before are not embedded again",
    "Removed": "leaves the index",
}
_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Plan:
    """What applying a changed RAGIndex would do."""

    index: str
    live: str | None
    """Revision that answers."""

    revision: str | None
    """Revision that the file asks for; None while the embedder's is not known."""

    change: Change
    work: Work
    suspended: bool
    """Whether the file suspends the index: nothing is read or built then."""

    waits: str | None
    """What a build would wait for."""

    measured: str | None
    """The embedder whose speed is known."""

    embedder: str | None
    """The embedder that builds would use, by its `modelId`."""


def lines(plan: Plan) -> Iterator[str]:
    """The plan, line by line."""
    change = plan.change
    yield f"{plan.index}: {_SUMMARIES[change.action]}"
    for each in change.causes:
        yield f"  {_told(each)}{'   builds anew' if change.action == 'Rebuild' else ''}"
    for each in change.others:
        yield f"  {_told(each)}"
    for source in change.sources:
        yield f"  source {source.name}: {_source(source)}"
    if change.action == "Rebuild":
        yield from _rebuild(plan)
    if change.action == "Sync":
        yield "How much is embedded is not known before the sources are read."
    if plan.suspended:
        yield "spec.suspend is true: no source is read and nothing is built until it is false."
    elif plan.waits and change.action in ("Sync", "Rebuild", "Create"):
        yield f"It waits: {plan.waits}"


def _rebuild(plan: Plan) -> Iterator[str]:
    work = plan.work
    if not plan.change.causes:
        yield f"  revision {plan.live} -> {plan.revision}: the embedder, or an earlier change, asks for it already"
    if work.documents is None:
        yield "How much is embedded is not known: no synchronization has ended yet."
        return
    yield (
        f"Embedded again: {work.documents:,} documents, about {work.passages:,} passages, about {work.tokens:,} tokens."
    )
    yield _time(plan)
    if work.disk_bytes is not None and work.present_disk_bytes is not None:
        yield f"Disk: about {_size(work.disk_bytes)}, beside about {_size(work.present_disk_bytes)} of the present collection."


def _time(plan: Plan) -> str:
    work = plan.work
    if work.seconds is None:
        return "Time: not known; no synchronization was measured that embedded a good part of the index."
    which = (
        ""
        if plan.measured == plan.embedder
        else f" with {plan.measured}; another embedder may be slower or faster"
    )
    speed = f"{work.tokens_per_second:,} tokens/s, as measured last{which}"
    return f"Time: about {_duration(work.seconds)} ({speed}); longer while queries come, which go first."


def _told(change: FieldChange) -> str:
    return f"{change.path}: {_value(change.before)} -> {_value(change.after)}"


def _value(value: Any) -> str:
    if value is None:
        return "(not set)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _source(source: SourceChange) -> str:
    count = "" if source.documents is None else f" ({source.documents:,} documents of it are in the index)"
    return _SOURCES[source.change] + count


def _duration(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _size(count: int) -> str:
    mib = count / 2**20
    return f"{mib:.1f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"
