# SPDX-License-Identifier: Apache-2.0
"""The operator: its end is repaired here, because it keeps no state of its own."""

import sys

from lateen_cli.parts.part import Part, Site
from lateen_cli.probes import Probe

NAMESPACE = "lateen-system"
RESTARTS = 5

TUNING = tuple(f"LATEEN_OPERATOR_{name}" for name in ("RESYNC_SECONDS", "CONCURRENCY", "LOG_LEVEL"))
"""Variables of the user's environment that reach the operator: none of them points to another stack."""


def describe(site: Site) -> Part:
    """The operator with its own identity in the API server."""
    ports, secrets = site.ports, site.secrets
    tuning = {name: site.inherited[name] for name in TUNING if name in site.inherited}
    environment = site.environment(
        **tuning,
        KUBECONFIG=str(site.pki.folder / "operator.kubeconfig"),
        LATEEN_OPERATOR_NAMESPACE=NAMESPACE,
        LATEEN_OPERATOR_RAY_URL=f"http://127.0.0.1:{ports.ray_dashboard}",
        LATEEN_OPERATOR_RAY_TOKEN=secrets.ray_token,
        LATEEN_OPERATOR_WEAVIATE_URL=f"http://127.0.0.1:{ports.weaviate}",
        LATEEN_OPERATOR_WEAVIATE_GRPC_PORT=str(ports.weaviate_grpc),
        LATEEN_OPERATOR_WEAVIATE_API_KEY=secrets.weaviate_key,
        LATEEN_OPERATOR_GATEWAY_HOST="127.0.0.1",
        LATEEN_OPERATOR_GATEWAY_PORT=str(ports.gateway),
        LATEEN_OPERATOR_GATEWAY_URL=f"http://127.0.0.1:{ports.gateway}/v1",
        LATEEN_OPERATOR_SECRETS_FOLDER=str(site.state.secrets),
        LATEEN_OPERATOR_HEALTH_HOST="127.0.0.1",
        LATEEN_OPERATOR_HEALTH_PORT=str(ports.operator),
    )
    command = (sys.executable, "-m", "lateen_operator")
    needs = frozenset({"resources", "ray", "weaviate", "controllers"})
    probe = Probe(ports.operator, "/healthz")
    return Part("operator", command, environment, probe, {"health": ports.operator}, needs, restarts=RESTARTS)
