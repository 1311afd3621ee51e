# SPDX-License-Identifier: Apache-2.0
"""What a synchronization has to do."""

import pytest

from lateen_serving.rag.planning import Plan, distrust, plan
from lateen_serving.rag.protocol import PENDING, Entry


def ledger(**hashes: str) -> dict[str, Entry]:
    """Entries of source `s`, each with two chunks."""
    return {f"s/{name}": Entry(f"s/{name}", digest, 2, 20) for name, digest in hashes.items()}


@pytest.mark.parametrize(
    ("known", "present", "unreadable", "failed", "expected"),
    [
        ({}, {"s/a": "1"}, (), (), Plan(("s/a",), (), ())),
        (ledger(a="1"), {"s/a": "1"}, (), (), Plan((), (), ("s/a",))),
        (ledger(a="1"), {"s/a": "2"}, (), (), Plan(("s/a",), (), ())),
        (ledger(a="1"), {}, (), (), Plan((), ("s/a",), ())),
        (ledger(a="1"), {"s/b": "1"}, (), (), Plan(("s/b",), ("s/a",), ())),
        (ledger(a="1"), {}, (), ("s",), Plan((), (), ("s/a",))),
        (ledger(a="1"), {}, (), ("other",), Plan((), ("s/a",), ())),
        (ledger(a="1"), {}, ("s/a",), (), Plan((), (), ("s/a",))),
        (ledger(a=PENDING), {"s/a": "1"}, (), (), Plan(("s/a",), (), ())),
        (ledger(a=PENDING), {}, (), (), Plan((), ("s/a",), ())),
        (ledger(a=PENDING), {}, (), ("s",), Plan((), (), ("s/a",))),
        (ledger(b="1", a="1"), {"s/c": "1", "s/b": "2", "s/a": "1"}, (), (), Plan(("s/b", "s/c"), (), ("s/a",))),
    ],
    ids=[
        "new", "unchanged", "edited", "gone", "renamed", "source failed", "another source failed", "unreadable",
        "crashed while writing", "crashed while removing", "crashed, then source failed", "mixed",
    ],
)  # fmt: skip
def test_plan(
    known: dict[str, Entry],
    present: dict[str, str],
    unreadable: tuple[str, ...],
    failed: tuple[str, ...],
    expected: Plan,
) -> None:
    """Content decides; what can't be read now is not known to be gone."""
    assert plan(known, present, unreadable=unreadable, kept_sources=failed) == expected


def test_entries_are_believed_only_as_far_as_the_chunks_confirm_them() -> None:
    """A wrong number of chunks makes an entry pending; chunks without an entry are orphans."""
    known = ledger(right="1", short="1", none="1")
    believed, orphans = distrust(known, {"s/right": 2, "s/short": 1, "s/stranger": 3})
    assert {key: entry.content_hash for key, entry in believed.items()} == {
        "s/right": "1",
        "s/short": PENDING,
        "s/none": PENDING,
    }
    assert orphans == ("s/stranger",)
