# SPDX-License-Identifier: Apache-2.0
"""Weaviate: one node with API-key authentication and without telemetry, modules or profiling.

Its end is repaired: what it has answered for is on disk, and everybody who talks to it tries again.

Its HTTP address and Raft follow the addresses given here. Its gRPC port and its cluster port listen on every
interface whatever is set (1.38): the first asks for the API key, the second for the generated cluster password.
"""

from lateen_cli.parts.part import Part, Site
from lateen_cli.probes import Probe

USER = "lateen"

RESTARTS = 5
STEADY = 10.0
"""Seconds after which a start has surely read what is on disk: where that is broken, it ends earlier each time."""


def describe(site: Site) -> Part:
    """One node, whose data stays in the state directory."""
    ports, secrets = site.ports, site.secrets
    command = (
        str(site.tools["weaviate"]),
        "--host=127.0.0.1",
        f"--port={ports.weaviate}",
        "--scheme=http",
        "--write-timeout=600s",
    )
    environment = site.bare(
        # Needed by `vectorIndex: dynamic`. Off by default: every index's vectors would be found a moment later.
        ASYNC_INDEXING=site.inherited.get("ASYNC_INDEXING", "false"),
        PERSISTENCE_DATA_PATH=str(site.volume("weaviate")),
        AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED="false",
        AUTHENTICATION_APIKEY_ENABLED="true",
        AUTHENTICATION_APIKEY_ALLOWED_KEYS=secrets.weaviate_key,
        AUTHENTICATION_APIKEY_USERS=USER,
        AUTHORIZATION_ADMINLIST_ENABLED="true",
        AUTHORIZATION_ADMINLIST_USERS=USER,
        DEFAULT_VECTORIZER_MODULE="none",
        ENABLE_MODULES="",
        ENABLE_API_BASED_MODULES="false",
        # An insert into a collection that was just deleted must fail, not create one of another shape.
        AUTOSCHEMA_ENABLED="false",
        DISABLE_TELEMETRY="true",
        GO_PROFILING_DISABLE="true",
        LOG_LEVEL="warning",
        GRPC_PORT=str(ports.weaviate_grpc),
        CLUSTER_HOSTNAME="node1",
        CLUSTER_ADVERTISE_ADDR="127.0.0.1",
        CLUSTER_BIND_ADDR="127.0.0.1",
        CLUSTER_GOSSIP_BIND_PORT=str(ports.weaviate_gossip),
        CLUSTER_DATA_BIND_PORT=str(ports.weaviate_data),
        CLUSTER_BASIC_AUTH_USERNAME=USER,
        CLUSTER_BASIC_AUTH_PASSWORD=secrets.weaviate_cluster_password,
        RAFT_BOOTSTRAP_EXPECT="1",
        RAFT_PORT=str(ports.weaviate_raft),
        RAFT_INTERNAL_RPC_PORT=str(ports.weaviate_raft_rpc),
    )
    probe = Probe(ports.weaviate, "/v1/.well-known/ready")
    shown = {"http": ports.weaviate, "grpc": ports.weaviate_grpc}
    return Part("weaviate", command, environment, probe, shown, restarts=RESTARTS, steady=STEADY)
