# SPDX-License-Identifier: Apache-2.0
"""Which ports one stack listens on: one block of neighbours, chosen once, remembered, replaced where it is taken.

A block rather than single ports, because some parts open theirs late: another stack that starts meanwhile must
see that they are spoken for. The first port of the block says so: the supervisor holds it and nobody listens on it.
`state.py` keeps the ports; `parts/` put them into command lines.
"""

import random
import socket
from collections.abc import Callable
from typing import TypeAlias

import psutil
from pydantic import BaseModel, ConfigDict

BLOCK = 300
REPLICAS = 100
"""Ports of a block that Ray Serve gives to the replicas of the gateway."""

WORKERS = 150
"""Ports at the end of a block that Ray gives to its workers, one each."""

BLOCKS = range(20000, 32400, BLOCK)
"""Starts of blocks; below Linux's ephemeral range, so that no outgoing connection takes a port between two starts,
and above the range (10002-19999) in which other Rays of the machine open ports."""

Free: TypeAlias = Callable[[int], bool]
Claim: TypeAlias = Callable[[int], "socket.socket | None"]
Lingering: TypeAlias = Callable[[], frozenset[int]]


class Ports(BaseModel):
    """Every port of one stack; `replicas` is the first of `REPLICAS`, `workers` of `WORKERS`, `block` the one that is only held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: int
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
    workers: int


def layout(block: int) -> Ports:
    """The ports of the block that starts at `block`."""
    singles = [name for name in Ports.model_fields if name not in ("replicas", "workers")]
    ports = {name: block + offset for offset, name in enumerate(singles)}
    workers = block + BLOCK - WORKERS
    return Ports(**ports, replicas=workers - REPLICAS, workers=workers)


def free(port: int) -> bool:
    """Whether nothing listens on `port` on any interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def lingering() -> frozenset[int]:
    """Ports of which nothing is left but closed connections, which the system remembers for a minute."""
    used = [(each.laddr.port, each.status) for each in psutil.net_connections("tcp") if each.laddr]
    waiting = {port for port, status in used if status == psutil.CONN_TIME_WAIT}
    return frozenset(waiting - {port for port, status in used if status != psutil.CONN_TIME_WAIT})


def claim(block: int) -> socket.socket | None:
    """The first port of a block, held but not listened on until the socket is closed; None: somebody has it."""
    guard = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        guard.bind(("127.0.0.1", block))
    except OSError:
        guard.close()
        return None
    return guard


def choose(
    previous: Ports | None,
    claimed: Claim = claim,
    is_free: Free = free,
    dice: random.Random | None = None,
    closed: Lingering = lingering,
) -> tuple[Ports, socket.socket]:
    """Ports for a start, the previous ones where they are still free, and the socket that keeps others off them.

    Raises OSError where the machine has no free block left.
    """
    shuffled = (dice or random.SystemRandom()).sample(BLOCKS, len(BLOCKS))
    for block in ([previous.block] if previous else []) + shuffled:
        guard = claimed(block)
        if guard is None:
            continue
        ports = layout(block)
        if _usable(ports, is_free, closed):
            return ports, guard
        guard.close()
    raise OSError("no block of free ports is left on this machine")


def _usable(ports: Ports, is_free: Free, closed: Lingering) -> bool:
    """Whether the parts can listen on all ports of a block.

    Ray Serve 2.60 opens the replicas' ports without SO_REUSEADDR, so that none can be opened again for a minute after its
    last connection; it passes over such a port. They are no reason to move a stack that was stopped just now.
    """
    taken = {port for port in range(ports.block + 1, ports.block + BLOCK) if not is_free(port)}
    return not taken or taken <= closed().intersection(range(ports.replicas, ports.replicas + REPLICAS))
