# SPDX-License-Identifier: Apache-2.0
"""Runs at the start of every Ray worker of a local stack: what they open listens on this machine only.

Ray Serve 2.60 opens a gRPC port for each replica on every interface, and no setting changes that. Ray calls
`narrow` because `parts/ray.py` names it in the workers' environment; a cluster's nodes do not.
"""

from collections.abc import Callable
from typing import Any

EVERYWHERE = "[::]:"
HERE = "127.0.0.1:"


def narrow() -> None:
    """Make Ray's way of opening gRPC ports replace "every interface" by loopback."""
    import ray._common.tls_utils as opening

    original: Callable[[Any, str], Any] = opening.add_port_to_grpc_server

    def add_port(server: Any, address: str) -> Any:
        return original(server, here(address))

    opening.add_port_to_grpc_server = add_port


def here(address: str) -> str:
    """The address, on loopback where it was every interface."""
    return HERE + address.removeprefix(EVERYWHERE) if address.startswith(EVERYWHERE) else address
