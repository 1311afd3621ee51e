# SPDX-License-Identifier: Apache-2.0
"""Ray, Weaviate and the operator as tests look at them and disturb them: plain HTTP, none of our own code."""

import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from stack.cluster import Cluster
from stack.local import LocalStack
from stack.waiting import wait_for

WRITES = {"create", "update", "patch", "apply", "delete", "post", "put", "deletecollection"}
SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class RayServe:
    """Ray's Serve REST API, with the stack's token."""

    http: httpx.Client

    @classmethod
    def of(cls, stack: LocalStack) -> "RayServe":
        """That of a stack."""
        url = f"http://127.0.0.1:{stack.ports.ray_dashboard}"
        headers = {"Authorization": f"Bearer {stack.secrets.ray_token}"}
        return cls(httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False))

    def details(self) -> dict[str, Any]:
        """Everything Serve says about itself."""
        reply = self.http.get("/api/serve/applications/")
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()
        return found

    def applications(self) -> dict[str, dict[str, Any]]:
        """Applications by name."""
        found: dict[str, dict[str, Any]] = self.details()["applications"]
        return found

    def of_model(self, namespace: str, name: str) -> dict[str, dict[str, Any]]:
        """The applications of one ModelDeployment, one per revision."""
        prefix = f"{namespace}_{name}_"
        return {key: value for key, value in self.applications().items() if key.startswith(prefix)}

    def replicas(self, application: str, states: Sequence[str] = ("RUNNING",)) -> set[str]:
        """Ids of the replicas of a model's application that are in one of `states`."""
        found = self.applications()[application]["deployments"]["Model"]["replicas"]
        return {replica["replica_id"] for replica in found if replica["state"] in states}

    def pids(self, application: str, deployment: str = "Model") -> list[int]:
        """The processes of the running replicas; none where there is no such application."""
        found = self.applications().get(application, {}).get("deployments", {}).get(deployment, {})
        return [int(entry["pid"]) for entry in found.get("replicas", []) if entry["state"] == "RUNNING"]

    def pid(self, application: str, deployment: str = "Model") -> int:
        """The process of the only running replica; raises AssertionError when there is not just one."""
        running = self.pids(application, deployment)
        assert len(running) == 1, f"{application} has {len(running)} running replicas"
        return running[0]

    def remove(self, *names: str) -> None:
        """PUT the present config without some applications, as a careless administrator would."""
        details = self.details()
        kept = [
            found["deployed_app_config"]
            for name, found in details["applications"].items()
            if name not in names and found["deployed_app_config"]
        ]
        config = {
            "proxy_location": details["proxy_location"],
            "http_options": {key: details["http_options"][key] for key in ("host", "port")},
            "applications": kept,
        }
        self.http.put("/api/serve/applications/", json=config).raise_for_status()

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that were submitted."""
        reply = self.http.get("/api/jobs/")
        reply.raise_for_status()
        found: list[dict[str, Any]] = reply.json()
        return found


@dataclass(frozen=True)
class Weaviate:
    """Weaviate's REST API, with the stack's key."""

    http: httpx.Client

    @classmethod
    def of(cls, stack: LocalStack) -> "Weaviate":
        """That of a stack."""
        url = f"http://127.0.0.1:{stack.ports.weaviate}"
        headers = {"Authorization": f"Bearer {stack.secrets.weaviate_key}"}
        return cls(httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False))

    def collections(self, prefix: str = "Lateen_") -> set[str]:
        """Names of collections."""
        classes = self._get("/v1/schema").get("classes") or []
        return {entry["class"] for entry in classes if entry["class"].startswith(prefix)}

    def aliases(self, prefix: str = "Lateen_") -> dict[str, str]:
        """Collection by alias."""
        found = self._get("/v1/aliases").get("aliases") or []
        return {entry["alias"]: entry["class"] for entry in found if entry["alias"].startswith(prefix)}

    def point(self, alias: str, collection: str) -> None:
        """Move an alias."""
        self.http.put(f"/v1/aliases/{alias}", json={"class": collection}).raise_for_status()

    def create(self, collection: str) -> None:
        """Create an empty collection without vectorizer."""
        body = {"class": collection, "vectorizer": "none"}
        self.http.post("/v1/schema", json=body).raise_for_status()

    def delete(self, collection: str) -> None:
        """Delete a collection."""
        self.http.delete(f"/v1/schema/{collection}").raise_for_status()

    def objects(self, collection: str) -> list[dict[str, Any]]:
        """All objects of a small collection."""
        found: list[dict[str, Any]] = self._get(f"/v1/objects?class={collection}&limit=1000")["objects"]
        return found

    def passages(self, collection: str) -> list[dict[str, Any]]:
        """All objects of a collection of less than 1000, with their vectors."""
        path = f"/v1/objects?class={collection}&limit=1000&include=vector"
        found: list[dict[str, Any]] = self._get(path)["objects"]
        assert len(found) < 1000
        return found

    def find(self, collection: str, search: str, limit: int = 10) -> list[tuple[str, float]]:
        """Ids and distances of what a search finds (GraphQL's `nearVector: {...}` or `bm25: {...}`), best first."""
        query = f"{{Get {{{collection}({search}, limit: {limit}) {{_additional {{id distance}}}}}}}}"
        found = self._ask(query)["Get"][collection]
        return [(each["_additional"]["id"], each["_additional"]["distance"] or 0.0) for each in found]

    def count(self, collection: str) -> int:
        """How many objects the store itself counts."""
        found = self._ask(f"{{Aggregate {{{collection} {{meta {{count}}}}}}}}")["Aggregate"][collection]
        return int(found[0]["meta"]["count"])

    def ready(self) -> bool:
        """Whether it serves."""
        try:
            return self.http.get("/v1/.well-known/ready").is_success
        except httpx.TransportError:
            return False

    def _ask(self, query: str) -> dict[str, Any]:
        reply = self.http.post("/v1/graphql", json={"query": query})
        reply.raise_for_status()
        body = reply.json()
        assert not body.get("errors"), body["errors"]
        found: dict[str, Any] = body["data"]
        return found

    def report(self, collection: str) -> dict[str, Any]:
        """What the last synchronization of a collection reported; an empty dict when there was none."""
        bodies = [
            entry["properties"]["body"]
            for entry in self.objects(f"{collection}_ledger")
            if entry["properties"]["kind"] == "report"
        ]
        found: dict[str, Any] = json.loads(bodies[0]) if bodies else {}
        return found

    def _get(self, path: str) -> dict[str, Any]:
        reply = self.http.get(path)
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()
        return found


@dataclass(frozen=True)
class Operator:
    """The operator's process and what it says about itself."""

    stack: LocalStack

    @property
    def pid(self) -> int:
        """Its present process."""
        return self.stack.pid("operator")

    def kill(self) -> int:
        """SIGKILL; the pid that was."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def healthy(self) -> bool:
        """Whether `/healthz` answers 200."""
        url = f"http://127.0.0.1:{self.stack.ports.operator}/healthz"
        try:
            return httpx.get(url, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_restarted(self, killed: int, timeout: float = 60) -> None:
        """Wait until the supervisor has started another process and it is healthy."""
        wait_for(lambda: self.pid != killed and self.healthy(), timeout, "the operator was not restarted")

    def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        """Samples of `/metrics`: name, labels, value."""
        url = f"http://127.0.0.1:{self.stack.ports.operator}/metrics"
        return samples(httpx.get(url, timeout=10, trust_env=False).text)


@dataclass(frozen=True)
class Writes:
    """Write requests to the API server so far, counted twice by parties that don't know of each other."""

    by_operator: float
    """The operator's own counter, its Lease left out."""
    at_server: Mapping[tuple[str, str], float]
    """The API server's counter by (resource, verb): our resources and what the operator writes beside them."""


def count_writes(operator: Operator, cluster: Cluster) -> Writes:
    """How many writes there have been."""
    own = sum(
        value
        for name, labels, value in operator.metrics()
        if name == "lateen_operator_api_requests_total"
        and _is_write(labels)
        and "leases" not in labels.values()
    )
    watched = ("events", "configmaps", "secrets", "controllerrevisions", "namespaces")
    server = {
        (labels["resource"] + "/" + labels.get("subresource", ""), labels["verb"]): value
        for name, labels, value in samples(cluster.run("get", "--raw", "/metrics"))
        if name == "apiserver_request_total"
        and labels["verb"].lower() in WRITES
        and (labels["group"] == "lateen.dev" or labels["resource"] in watched)
        and labels.get("dry_run", "") == ""
    }
    return Writes(own, server)


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Parse Prometheus's text format."""
    found = []
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match:
            labels = dict(LABEL.findall(match["labels"] or ""))
            found.append((match["name"], labels, float(match["value"])))
    return found


def _is_write(labels: Mapping[str, str]) -> bool:
    return any(value.lower() in WRITES for value in labels.values())
