# SPDX-License-Identifier: Apache-2.0
"""What a changed RAGIndex does to the collection that answers, and how much work that is. Pure.

Whether a collection is built anew is decided by `RAGIndexSpec.revision`, which the operator names collections by. Called by
`lateen plan`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lateen_api.rag_index import REVISED, RAGIndexSpec
from lateen_api.status_types import RAGIndexStatus

Action = Literal["None", "InPlace", "Sync", "Rebuild", "Create"]
"""`InPlace`: it takes effect without reading a source. `Sync`: sources are read, and what changed is embedded, in the live
collection. `Rebuild`: a new collection is filled beside the live one. `Create`: there is no live one yet."""

_AT_ONCE = ("retrieval", "quality", "suspend")
"""Fields that need no source to be read."""

_MISSING = object()
_BYTES_PER_TOKEN = 40
"""Of a passage's text, its metadata and the keyword index, on Weaviate's disk."""

_BYTES_PER_NUMBER = 4
_GRAPH_BYTES = 600
"""Of a passage in the graph of its vectors."""


@dataclass(frozen=True)
class FieldChange:
    """A field with another value."""

    path: str
    """Such as `spec.chunking.size`."""

    before: Any
    """None where it was not set."""

    after: Any


@dataclass(frozen=True)
class SourceChange:
    """A source that is read differently."""

    name: str
    change: Literal["Added", "Changed", "Removed"]
    documents: int | None
    """Documents of it in the index now; None where that is not known."""


@dataclass(frozen=True)
class Change:
    """What a changed spec does."""

    action: Action
    causes: Sequence[FieldChange] = ()
    """Fields for which a new collection is built."""

    sources: Sequence[SourceChange] = ()
    others: Sequence[FieldChange] = ()
    """All other fields that differ."""


@dataclass(frozen=True)
class Work:
    """What a new collection takes, as far as it can be told from the live one. None: nothing is known to tell it from."""

    documents: int | None = None
    passages: int | None = None
    """About."""

    tokens: int | None = None
    """About; as the embedder counts."""

    tokens_per_second: int | None = None
    """Of the last synchronization that embedded a good part of the index, reading and storing included."""

    seconds: int | None = None
    """About, while few queries come: a build gives way to them."""

    disk_bytes: int | None = None
    """About, of the new collection; the present one stays until the new one answers, or longer."""

    present_disk_bytes: int | None = None
    """About, of the present one, reckoned in the same way."""


def between(
    present: RAGIndexSpec | None,
    wanted: RAGIndexSpec,
    status: RAGIndexStatus,
    revision: str | None,
) -> Change:
    """What applying `wanted` does to an index of spec `present` (None: there is none) with `status`.

    `revision` is that of `wanted`; None while the embedder's is not known: then the fields decide alone.
    """
    if present is None:
        return Change("Create", sources=_sources(None, wanted, status))
    found = list(_fields(present.dump(), wanted.dump(), "spec"))
    causes = [each for each in found if _top(each) in REVISED]
    sources = _sources(present, wanted, status)
    others = [each for each in found if _top(each) not in (*REVISED, "sources")]
    return Change(_action(causes, sources, others, status.revision, revision), causes, sources, others)


def _action(
    causes: Sequence[FieldChange],
    sources: Sequence[SourceChange],
    others: Sequence[FieldChange],
    live: str | None,
    revision: str | None,
) -> Action:
    if live is None:
        return "Create"
    if bool(causes) if revision is None else revision != live:
        return "Rebuild"
    if sources or any(_top(each) not in _AT_ONCE for each in others):
        return "Sync"
    return "InPlace" if causes or others else "None"


def work(
    change: Change,
    present: RAGIndexSpec,
    wanted: RAGIndexSpec,
    status: RAGIndexStatus,
    dimension: int | None = None,
) -> Work:
    """What the new collection of a `Rebuild` takes: all that stays in the index is embedded again.

    `dimension` is the length of the live collection's vectors; what another embedder's have is not known here.
    """
    if status.documents is None or status.chunks is None or status.tokens is None:
        return Work()
    leaving = sum(each.documents or 0 for each in change.sources if each.change == "Removed")
    documents = max(0, status.documents - leaving)
    share = documents / status.documents if status.documents else 0.0
    passages, tokens = _cut(present, wanted, status.documents, status.chunks, status.tokens)
    passages, tokens = round(passages * share), round(tokens * share)
    speed = _speed(status)
    return Work(
        documents,
        passages,
        tokens,
        speed,
        math.ceil(tokens / speed) if speed else None,
        _disk(passages, tokens, dimension),
        _disk(status.chunks, status.tokens, dimension),
    )


def _cut(
    present: RAGIndexSpec, wanted: RAGIndexSpec, documents: int, chunks: int, tokens: int
) -> tuple[int, int]:
    """Passages and their tokens once the same text is cut as `wanted` says."""
    old, new = present.chunking, wanted.chunking
    if old == new or chunks == 0:
        return chunks, tokens
    whole = max(tokens - max(chunks - documents, 0) * old.overlap, chunks)
    passages = max(documents, round(chunks * (old.size - old.overlap) / (new.size - new.overlap)))
    return passages, whole + max(passages - documents, 0) * new.overlap


def _speed(status: RAGIndexStatus) -> int | None:
    measured = status.embedding
    if measured is None or not measured.tokens or not measured.seconds:
        return None
    return max(1, measured.tokens // measured.seconds)


def _disk(passages: int, tokens: int, dimension: int | None) -> int | None:
    if dimension is None:
        return None
    return passages * (dimension * _BYTES_PER_NUMBER + _GRAPH_BYTES) + tokens * _BYTES_PER_TOKEN


def _sources(
    present: RAGIndexSpec | None, wanted: RAGIndexSpec, status: RAGIndexStatus
) -> list[SourceChange]:
    before = {each.name: each for each in present.sources} if present else {}
    after = {each.name: each for each in wanted.sources}
    counts = {each.name: each.documents for each in status.sources or ()}
    removed = [SourceChange(name, "Removed", counts.get(name)) for name in before if name not in after]
    added = [SourceChange(name, "Added", None) for name in after if name not in before]
    changed = [
        SourceChange(name, "Changed", counts.get(name))
        for name, source in after.items()
        if name in before and before[name] != source
    ]
    return [*added, *changed, *removed]


def _top(change: FieldChange) -> str:
    return change.path.split(".")[1]


def _fields(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    """Where two values differ, as deep as both are objects."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _fields(before.get(key, _MISSING), after.get(key, _MISSING), f"{path}.{key}")
    elif before != after:
        yield FieldChange(path, *(None if value is _MISSING else value for value in (before, after)))
