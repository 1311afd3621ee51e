# SPDX-License-Identifier: Apache-2.0
"""The few things the command line does in the API server, all through kubectl.

Secrets travel on kubectl's standard input, never in its arguments.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lateen_cli.parts.reconciler import NAMESPACE

FIELD_MANAGER = "lateen-cli"
API_KEY_LABEL = "lateen.dev/api-key"
TIMEOUT = 60.0


class Refused(Exception):
    """kubectl ended with an error; the message is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """One cluster as one identity."""

    program: Path
    kubeconfig: Path | None = None
    """None: where kubectl finds it by itself."""
    cache: Path | None = None
    """A stack's own, so that what it saw before our kinds were defined is not what the user's kubectl remembers."""

    async def run(self, *arguments: str, given: str | None = None) -> str:
        """Standard output of `kubectl ARGUMENTS`; Refused where it fails or takes longer than `TIMEOUT` seconds."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            *self._place(),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                out, problem = await process.communicate((given or "").encode())
        except TimeoutError as error:
            raise Refused(f"kubectl {arguments[0]} took longer than {TIMEOUT:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise Refused(f"kubectl {arguments[0]}: {problem.decode(errors='replace').strip()}")
        return out.decode()

    def _place(self) -> tuple[str, ...]:
        named = (("kubeconfig", self.kubeconfig), ("cache-dir", self.cache))
        return tuple(f"--{name}={path}" for name, path in named if path is not None)

    async def apply(self, given: str) -> None:
        """Server-side apply of manifests."""
        arguments = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename=-")
        await self.run("apply", *arguments, given=given)


def definitions() -> list[Path]:
    """The CustomResourceDefinitions, from the installed package or the repository this file lies in."""
    here = Path(__file__).resolve().parent
    packaged = sorted((here / "crds").glob("*.yaml"))
    return packaged or sorted((here.parents[1] / "crds").glob("*.yaml"))


def definition_names() -> list[str]:
    """The definitions' names, such as `modeldeployments.lateen.dev`."""
    return [f"{file.stem}.lateen.dev" for file in definitions()]


def base_objects(api_key: str) -> str:
    """The operator's namespace and the Secret with the client key, as JSON for kubectl."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    metadata = {"name": "lateen-api-key", "namespace": NAMESPACE, "labels": {API_KEY_LABEL: "true"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"key": api_key}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace, secret]})


async def install(kubectl: Kubectl, api_key: str) -> None:
    """Definitions, established; namespace; client key. Safe to repeat."""
    files = definitions()
    if not files:
        raise Refused("this installation of lateen carries no CustomResourceDefinitions")
    await kubectl.apply("\n---\n".join(file.read_text() for file in files))
    crds = [f"crd/{name}" for name in definition_names()]
    await kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *crds)
    await kubectl.apply(base_objects(api_key))


async def resources(kubectl: Kubectl) -> list[dict[str, Any]]:
    """All resources of our kinds, of all namespaces."""
    # Not by category: kubectl resolves those from a cache that may be older than the definitions.
    kinds = ",".join(definition_names())
    answer = json.loads(await kubectl.run("get", kinds, "--all-namespaces", "--output=json"))
    items: list[dict[str, Any]] = answer.get("items", [])
    return items
