# SPDX-License-Identifier: Apache-2.0
"""Which ports one stack listens on: chosen once, remembered, replaced only where something else took them.

`state.py` keeps them; `parts/` put them into command lines.
"""

import random
import socket
from collections.abc import Callable, Iterable
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

SINGLE = range(20000, 29000)
"""Below Linux's ephemeral range, so that no outgoing connection takes a port between two starts."""

BLOCKS = range(10000, 20000, 100)
"""Starts of the blocks of `BLOCK` ports that Ray Serve gives to the replicas of the gateway."""

BLOCK = 100

Free: TypeAlias = Callable[[int], bool]


class Ports(BaseModel):
    """Every port of one stack; `replicas` is the first of a block of `BLOCK`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway: int
    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    operator: int
    weaviate: int
    weaviate_grpc: int
    weaviate_gossip: int
    weaviate_data: int
    weaviate_raft: int
    weaviate_raft_rpc: int
    ray: int
    ray_dashboard: int
    ray_dashboard_metrics: int
    ray_client: int
    ray_agent: int
    ray_agent_grpc: int
    ray_metrics: int
    ray_node: int
    ray_objects: int
    ray_environments: int
    serve_fallback: int
    serve_fallback_grpc: int
    haproxy_metrics: int
    haproxy_stats: int
    replicas: int


def free(port: int) -> bool:
    """Whether nothing listens on `port` on any interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def block_free(first: int, is_free: Free) -> bool:
    """Whether a whole block is free."""
    return all(is_free(port) for port in range(first, first + BLOCK))


def _pick(candidates: Iterable[int], is_free: Free, taken: set[int]) -> int:
    for port in candidates:
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise OSError("no free port is left on this machine")


def choose(previous: Ports | None, is_free: Free = free, dice: random.Random | None = None) -> Ports:
    """Ports for a start: the previous ones where they are still free, others where not.

    Raises OSError where the machine has none left.
    """
    dice = dice or random.SystemRandom()
    known: dict[str, int] = previous.model_dump() if previous else {}
    chosen: dict[str, int] = {}
    taken = {port for name, port in known.items() if name != "replicas"}
    for name in Ports.model_fields:
        if name == "replicas":
            whole = dice.sample(BLOCKS, len(BLOCKS))
            first = [known[name], *whole] if name in known else whole
            chosen[name] = _pick(first, lambda port: block_free(port, is_free), set())
        elif name in known and is_free(known[name]):
            chosen[name] = known[name]
        else:
            chosen[name] = _pick(dice.sample(SINGLE, len(SINGLE)), is_free, taken)
    return Ports(**chosen)


def moved(previous: Ports | None, current: Ports) -> list[str]:
    """Names of the ports that something else took since the last start."""
    if previous is None:
        return []
    before = previous.model_dump()
    return [name for name, port in current.model_dump().items() if before[name] != port]
