# SPDX-License-Identifier: Apache-2.0
"""What both sides know of an index's collection of pushed documents (`names.pushed_collection`). Pure.

The gateway writes it, a build reads it as a source, and the operator sees by its state that a build is due. The state
is the number of rows and the sum of the random numbers that rows get with each change: nobody has to write it, so that
no crash and no clock can leave a change unseen.
"""

NONCE = "nonce"
"""Property: a random number below `NONCES`, another one after each change of the row."""

NONCES = 2**31

CHANGED = "changed"
"""Property: when the row was changed last; Unix time, milliseconds."""

GONE = "gone"
"""Property: 1 for a document that was taken out again; its row stays for a while, to tell since when. Else 0."""

NOTHING = "0"
"""State of a collection without documents, also of one that is not there yet."""


def state(rows: int, nonces: float | None) -> str:
    """The state of a collection, given the number of its rows that are not gone and the sum of their nonces."""
    return f"{rows}-{int(nonces or 0):x}" if rows else NOTHING
