# SPDX-License-Identifier: Apache-2.0
"""Routing by how a request begins: equal beginnings meet on one replica, which has read them before. Used by `routers.py`.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018): each key has its own order of the
replicas and goes to the first one that stays within the bound, `ceil(c * (total + 1) / n)` requests. The order comes
from rendezvous hashing (Thaler, Ravishankar 1998) and not from a ring: it needs no virtual nodes to be even, a replica
that comes or goes moves only the keys that it gains or loses, and what overflows from a replica spreads over all
others instead of the next one.
"""

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lateen_serving.routing.policy import Load
from lateen_serving.routing.turns import LeastLoaded

LOAD_FACTOR = 1.25
"""How much more than the average a replica may have."""

_MASK = (1 << 64) - 1


def bound(loads: Sequence[Load], load_factor: float) -> int:
    """Most requests a replica may have with one request more in the system; `loads` is not empty."""
    total = sum(load.ongoing for load in loads)
    return math.ceil(load_factor * (total + 1) / len(loads))


@lru_cache(maxsize=8192)
def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _mixed(value: int) -> int:
    """A permutation of 64-bit numbers that leaves no pattern: the finaliser of SplitMix64 (Steele et al. 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _place(hashed_key: int, replica: str) -> tuple[int, str]:
    return _mixed(hashed_key ^ _hash(replica.encode())), replica


def preference(key: bytes, replicas: Iterable[str]) -> list[str]:
    """The order in which `key` prefers `replicas`; the same in every process, whatever the order of `replicas`."""
    hashed = _hash(key)
    return sorted(replicas, key=lambda replica: _place(hashed, replica))


def home(key: bytes, replicas: Iterable[str]) -> str:
    """The replica that `key` prefers above all; `replicas` is not empty."""
    hashed = _hash(key)
    return min(replicas, key=lambda replica: _place(hashed, replica))


class PrefixAware:
    """The replica that the key prefers, among those within the load bound."""

    def __init__(self, load_factor: float = LOAD_FACTOR) -> None:
        """A policy.

        Args:
            load_factor: The bound's `c`, at least 1; a higher one keeps conversations together and lets loads differ.

        Raises:
            ValueError: If `load_factor` is below 1.

        """
        if load_factor < 1:
            raise ValueError(f"load_factor is {load_factor}; it must be at least 1.")
        self._load_factor = load_factor
        self._without_key = LeastLoaded()

    def rank(
        self, key: bytes | None, loads: Sequence[Load], now: float, generator: random.Random
    ) -> list[str]:
        """See `Policy`; those within the bound as the key prefers them, then the others, least loaded first.

        A request without a key goes to the least loaded replica.
        """
        if key is None or not loads:
            return self._without_key.rank(None, loads, now, generator)
        most = bound(loads, self._load_factor)
        within = [load.replica for load in loads if load.ongoing < most]
        beyond = [load for load in loads if load.ongoing >= most]
        return preference(key, within) + self._without_key.rank(None, beyond, now, generator)

    def assigned(self, replica: str, now: float) -> None:
        """See `Policy`."""
        self._without_key.assigned(replica, now)

    def completed(self, replica: str, seconds: float, ongoing: int, now: float) -> None:
        """See `Policy`; durations don't matter."""

    def keep(self, replicas: Iterable[str]) -> None:
        """See `Policy`."""
        self._without_key.keep(replicas)
