# SPDX-License-Identifier: Apache-2.0
"""What a synchronization has to do. Pure; called by `sync.py`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from lateen_serving.rag.protocol import PENDING, Entry


@dataclass(frozen=True)
class Plan:
    """Document ids by what happens to them, each sorted."""

    changed: tuple[str, ...]
    """New, edited, or left in an unknown state by a crash: cut, embedded and stored."""

    removed: tuple[str, ...]
    """In the ledger but no longer in their source."""

    kept: tuple[str, ...]
    """Unchanged, or unreadable now: what is indexed stays."""


def plan(
    ledger: Mapping[str, Entry],
    present: Mapping[str, str],
    *,
    unreadable: Collection[str] = (),
    kept_sources: Collection[str] = (),
) -> Plan:
    """Compares the ledger with the documents that are `present` (id to content hash).

    A document that is `unreadable`, or whose source is among `kept_sources`, is not known to be gone: it stays.
    A duplicate counts as changed when the document it repeats does not stay as it is: it may be needed now.
    """
    changed = {key for key, digest in present.items() if _hash(ledger, key) != digest}
    unknown = {key for key, entry in ledger.items() if key in unreadable or entry.source in kept_sources}
    removed = [key for key in ledger if key not in present and key not in unknown]
    staying = ledger.keys() - changed - set(removed)
    changed |= {key for key in staying & present.keys() if not _stands(ledger[key], staying)}
    kept = ledger.keys() - changed - set(removed)
    return Plan(tuple(sorted(changed)), tuple(sorted(removed)), tuple(sorted(kept)))


def _stands(entry: Entry, staying: Collection[str]) -> bool:
    return not entry.facts.original or entry.facts.original in staying


def _hash(ledger: Mapping[str, Entry], key: str) -> str:
    entry = ledger.get(key)
    return PENDING if entry is None else entry.content_hash


def distrust(
    ledger: Mapping[str, Entry], counts: Mapping[str, int]
) -> tuple[dict[str, Entry], tuple[str, ...]]:
    """The ledger as the chunks that are really there (number by document) allow to believe it.

    Entries whose number of chunks differs become pending; the second value lists documents that have chunks but
    no entry: their chunks have to go.
    """
    believed = {
        key: entry if counts.get(key, 0) == entry.chunks else replace(entry, content_hash=PENDING)
        for key, entry in ledger.items()
    }
    return believed, tuple(sorted(counts.keys() - ledger.keys()))
