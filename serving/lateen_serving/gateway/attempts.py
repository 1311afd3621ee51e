# SPDX-License-Identifier: Apache-2.0
"""How many replicas one answer may cost. Made by `answers.py` and `calling.py`; every layer that tries again counts on
the same one, so that their tries add up instead of multiplying.
"""

from dataclasses import dataclass

ATTEMPTS = 3
"""Replicas that may be lost while they work on one answer, before it fails: its request may be what kills them."""


@dataclass
class Attempts:
    """Of one answer (of several in a request, each has its own)."""

    lost: int = 0
    """Replicas lost so far while they worked on it."""

    @property
    def is_last(self) -> bool:
        """Whether no further one may be lost without failing."""
        return self.lost >= ATTEMPTS - 1

    @property
    def is_over(self) -> bool:
        """Whether the answer has failed."""
        return self.lost >= ATTEMPTS
