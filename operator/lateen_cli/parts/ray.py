# SPDX-License-Identifier: Apache-2.0
"""Ray: one head node on loopback with token authentication, and what Ray Serve's processes read.

What is unusual here was found by trying Ray 2.60: see the comments and `hack/decisions/005-…`.
"""

import json
import os
import sys
from pathlib import Path

from lateen_cli.parts.part import Part, Site
from lateen_cli.ports import REPLICAS, WORKERS
from lateen_cli.probes import Probe

OBJECT_STORE_BYTES = 200_000_000

TRIES = 3
"""On a busy machine Ray's own limit for its agent, 15 s, is not enough for the first start."""


def logical_cores(cores: int) -> int:
    """CPUs that Ray hands out: more than there are, so that several small models share them."""
    return max(8, 4 * cores)


def describe(site: Site) -> Part:
    """The head node as a foreground process; its workers inherit the environment."""
    ports = site.ports
    command = (
        sys.executable,
        *("-m", "ray.scripts.scripts", "start", "--head", "--block"),
        "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1",
        f"--port={ports.ray}",
        f"--dashboard-port={ports.ray_dashboard}",
        f"--ray-client-server-port={ports.ray_client}",
        f"--dashboard-agent-listen-port={ports.ray_agent}",
        f"--dashboard-agent-grpc-port={ports.ray_agent_grpc}",
        f"--metrics-export-port={ports.ray_metrics}",
        f"--node-manager-port={ports.ray_node}",
        f"--object-manager-port={ports.ray_objects}",
        f"--runtime-env-agent-port={ports.ray_environments}",
        f"--min-worker-port={ports.workers}",
        f"--max-worker-port={ports.workers + WORKERS - 1}",
        f"--temp-dir={site.state.runtime / 'ray'}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--num-cpus={logical_cores(site.cores)}",
        # The monitor scales machines, of which there is one; without it there is no metrics page of its own.
        "--no-monitor",
        "--disable-usage-stats",
    )
    environment = site.environment(**_core(site), **_serve(site), **_haproxy(site), **_data_plane(site))
    headers = {"Authorization": f"Bearer {site.secrets.ray_token}"}
    # The dashboard answers before the node is there; a Ray without a node runs nothing.
    probe = Probe(ports.ray_dashboard, "/nodes?view=summary", headers, contains=b'"ALIVE"')
    shown = {"gcs": ports.ray, "dashboard": ports.ray_dashboard, "gateway": ports.gateway}
    return Part("ray", command, environment, probe, shown, grace=3.0, tries=TRIES)


def _core(site: Site) -> dict[str, str]:
    # Index builds run `python`: it must be the one that Lateen is installed in.
    programs = Path(sys.executable).parent
    path = site.inherited.get("PATH", os.defpath)
    return {
        "PATH": f"{programs}{os.pathsep}{path}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": site.secrets.ray_token,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Without it Ray replaces 127.0.0.1 by the machine's address and listens on every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "lateen_cli.loopback.narrow",
        "DASHBOARD_METRIC_PORT": str(site.ports.ray_dashboard_metrics),
        # Ray renames its processes over their environment; this keeps the stack's marker readable.
        "SPT_NOENV": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ADDRESS": f"127.0.0.1:{site.ports.ray}",
    }


def _serve(site: Site) -> dict[str, str]:
    first = site.ports.replicas
    half = REPLICAS // 2
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Time for the load balancer to take a replica off its list: here it is on the same machine.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.25",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.25",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(site.ports.serve_fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(site.ports.serve_fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + half - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first + half),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first + REPLICAS - 1),
    }


def _haproxy(site: Site) -> dict[str, str]:
    # Short names: Ray puts a node id of 56 characters between folder and file, and HAProxy takes paths up to 97.
    folder = site.state.runtime / "h"
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper_path(site.state.root)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(site.ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(site.ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def _data_plane(site: Site) -> dict[str, str]:
    return {
        "LATEEN_WEAVIATE_URL": f"http://127.0.0.1:{site.ports.weaviate}",
        "LATEEN_WEAVIATE_GRPC_PORT": str(site.ports.weaviate_grpc),
        "LATEEN_WEAVIATE_API_KEY": site.secrets.weaviate_key,
        "LATEEN_VOLUMES": str(site.state.volumes),
        "LATEEN_FILE_ROOTS": json.dumps([str(site.state.volumes)]),
        "LATEEN_SECRETS": str(site.state.secrets),
        "LATEEN_MODEL_CACHE": str(site.cache / "hub"),
    }


def wrapper_path(root: Path) -> Path:
    """Where the program lies that Ray takes for HAProxy."""
    return root / "bin" / "haproxy-on-loopback"


def wrapper(haproxy: Path) -> str:
    """A program that narrows what Ray's configuration opens, then becomes HAProxy.

    Ray 2.60 binds HAProxy's statistics and metrics pages to every interface without authentication, and no
    setting changes it; it makes the admin socket writable for everybody. The edited file is checked: a line
    that would still listen on every interface ends the start instead.
    """
    return f"""#!/bin/sh
set -eu
umask 077
config='' previous=''
for argument in "$@"; do
  if [ "$previous" = -f ]; then config=$argument; fi
  previous=$argument
done
if [ -n "$config" ]; then
  sed -i -E \\
    -e 's/^([[:space:]]*bind[[:space:]]+)\\*?:([0-9]+)/\\1127.0.0.1:\\2/' \\
    -e 's/^([[:space:]]*stats socket .* mode )666/\\1600/' "$config"
  if grep -Eq '^[[:space:]]*bind[[:space:]]+([*:[]|0\\.0\\.0\\.0)' "$config"; then
    echo "lateen: a line of $config listens on every interface" >&2
    exit 1
  fi
fi
exec '{haproxy}' "$@"
"""
