# SPDX-License-Identifier: Apache-2.0
"""Kubernetes as a user has it: kubectl, and what its output says about our resources."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.manifests import Manifest
from stack.waiting import wait_for

Completed = subprocess.CompletedProcess[str]
KINDS = "modeldeployments.lateen.dev,prompttemplates.lateen.dev,ragindexes.lateen.dev"


@dataclass(frozen=True)
class Cluster:
    """One API server."""

    kubectl_path: Path
    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> Completed:
        """Run kubectl; never raises for its exit status."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run(
            [str(self.kubectl_path), *arguments],
            input=stdin if stdin is not None else "",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and expect success; its standard output."""
        result = self.kubectl(*arguments, stdin=stdin)
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr.strip()}"
        return result.stdout

    def apply(self, *manifests: Manifest) -> None:
        """`kubectl apply` as users do it."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.run("apply", "-f", "-", stdin=json.dumps(document))

    def patch(self, kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """Merge `spec` into the spec of a resource."""
        self.run("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": dict(spec)}))

    def delete(self, kind: str, namespace: str, name: str, *, wait: bool = True) -> None:
        """Delete one resource, and with `wait` until it is gone."""
        self.run("delete", kind, name, "-n", namespace, f"--wait={str(wait).lower()}")

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """A resource as JSON; an empty dict when there is none."""
        text = self.run("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def status(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Its status."""
        found: dict[str, Any] = self.get(kind, namespace, name).get("status", {})
        return found

    def events(self, namespace: str) -> set[str]:
        """Reasons of all Events of a namespace."""
        items = json.loads(self.run("get", "events", "-n", namespace, "-o", "json"))["items"]
        return {item["reason"] for item in items}

    def wait_condition(
        self,
        kind: str,
        namespace: str,
        name: str,
        accept: Callable[[dict[str, Any]], bool],
        timeout: float,
    ) -> dict[str, Any]:
        """Wait until the Ready condition, observed at the present generation, is as wanted; the resource then."""
        last: dict[str, Any] = {}

        def settled() -> dict[str, Any] | None:
            nonlocal last
            last = self.get(kind, namespace, name)
            ready = condition(last)
            current = ready.get("observedGeneration") == last.get("metadata", {}).get("generation")
            return last if current and accept(ready) else None

        found = wait_for(
            settled,
            timeout,
            lambda: f"{kind} {namespace}/{name}: status is {json.dumps(last.get('status'), indent=1)}",
            interval=0.3,
        )
        assert found is not None
        return found

    def wait_ready(self, kind: str, namespace: str, name: str, timeout: float = 120) -> dict[str, Any]:
        """Wait until it is Ready; the resource then."""
        return self.wait_condition(kind, namespace, name, lambda ready: ready["status"] == "True", timeout)

    def wait_reason(
        self, kind: str, namespace: str, name: str, reason: str, timeout: float = 90
    ) -> dict[str, Any]:
        """Wait until Ready is False for `reason`; the resource then."""
        return self.wait_condition(
            kind,
            namespace,
            name,
            lambda ready: ready["status"] == "False" and ready["reason"] == reason,
            timeout,
        )


def condition(resource: Mapping[str, Any], kind: str = "Ready") -> dict[str, Any]:
    """One condition of a resource; an empty dict when it has none."""
    found: list[dict[str, Any]] = resource.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry["type"] == kind), {})
