# SPDX-License-Identifier: Apache-2.0
"""The real local stack under test: started by `lateen up` as users start it, looked at from outside.

`fixtures.py` starts it once per test run, or uses the running one that LATEEN_TEST_STACK names.
"""

import ipaddress
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import psutil

from lateen_cli import processes
from lateen_cli.credentials import Pki, Secrets
from lateen_cli.ports import Ports
from lateen_cli.state import StateDir
from stack import sources, tiny
from stack.cluster import Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
LATEEN = Path(sys.executable).parent / "lateen"
RESYNC_SECONDS = 1.0
"""Of tests, which would wait for the operator's own."""
SHIPPED_RESYNC_SECONDS = 15.0
"""The operator's default. Figures are taken with it: every resync asks everybody, and takes time from who serves."""
PLACEMENT_SECONDS = 12.0
"""After this time a replica without a node has no room: on one node there is nothing to wait for but processes."""
START_TIMEOUT = 600
STOP_TIMEOUT = 120
LONG = 8192
"""Tokens that the models `tiny-long` and `tiny-deep` read and write."""
DEEP = 48
"""Layers of `tiny-deep`, which is so much slower than the other tiny models."""


@dataclass(frozen=True)
class LocalStack:
    """One stack by its state directory."""

    state: StateDir

    def start(self, resync: float = RESYNC_SECONDS) -> float:
        """`lateen up --detach`, the operator resyncing every so many seconds; how many seconds it took."""
        started = time.monotonic()
        setting = {
            "LATEEN_OPERATOR_RESYNC_SECONDS": str(resync),
            "LATEEN_OPERATOR_PLACEMENT_SECONDS": str(PLACEMENT_SECONDS),
            # Where the node's administrator says that S3 is: a test may start a server there.
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{sources.free_port()}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            # By which a test's Git server on loopback is verified.
            "GIT_SSL_CAINFO": str(self.git_pki.authority),
            # Web servers and buckets that a test starts on loopback.
            "LATEEN_SOURCE_HOSTS": '["http://127.0.0.1"]',
        }
        result = lateen("up", "--detach", state=self.state.root, timeout=START_TIMEOUT, more=setting)
        assert result.returncode == 0, f"lateen up failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
        return time.monotonic() - started

    def stop(self) -> None:
        """`lateen down`."""
        result = lateen("down", state=self.state.root, timeout=STOP_TIMEOUT)
        assert result.returncode == 0, f"lateen down failed:\n{result.stdout}\n{result.stderr}"

    def fill_volumes(self) -> None:
        """Put the quickstart's weights and the tiny models where the claims `models` and `empty` are."""
        self.state.create()
        models = self.volume("models")
        subprocess.run([REPOSITORY / "hack" / "prepare", "volume", models], check=True)
        for make, name, seed in (
            (tiny.generator, "tiny-chat", 1),
            (tiny.generator, "tiny-chat-2", 2),
            (partial(tiny.generator, length=LONG), "tiny-long", 5),
            (partial(tiny.generator, length=LONG, layers=DEEP), "tiny-deep", 6),
            (tiny.embedder, "tiny-embed", 3),
            (tiny.embedder, "tiny-embed-2", 4),
            (tiny.reranker, "tiny-rerank", 7),
        ):
            if not (models / name).exists():
                make(models / name, seed)

    @property
    def git_pki(self) -> Pki:
        """Certificates of the Git server that index builds trust; made by the test that starts it."""
        return Pki(self.state.root / "git-pki")

    def volume(self, claim: str) -> Path:
        """The folder of a claim, made if need be."""
        folder = self.state.volumes / claim
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def ports(self) -> Ports:
        """Ports of the running stack."""
        stack = self.state.stack()
        assert stack is not None, f"{self.state.root} describes no stack"
        return stack.ports

    @cached_property
    def secrets(self) -> Secrets:
        """Its tokens and keys."""
        stack = self.state.stack()
        assert stack is not None, f"{self.state.root} describes no stack"
        return stack.secrets

    @cached_property
    def environment(self) -> dict[str, str]:
        """What `lateen env` exports."""
        result = lateen("env", state=self.state.root, timeout=60)
        assert result.returncode == 0, result.stderr
        lines = (line.removeprefix("export ") for line in result.stdout.splitlines() if "=" in line)
        pairs = (line.split("=", 1) for line in lines)
        return {name: value.strip("'\"") for name, value in pairs}

    @cached_property
    def cluster(self) -> Cluster:
        """Its Kubernetes API."""
        return Cluster(kubectl_program(), Path(self.environment["KUBECONFIG"]))

    @property
    def gateway_url(self) -> str:
        """Root of the gateway, without `/v1`."""
        return self.environment["OPENAI_BASE_URL"].removesuffix("/").removesuffix("/v1")

    @property
    def api_key(self) -> str:
        """A client key."""
        return self.environment["OPENAI_API_KEY"]

    def pid(self, part: str) -> int:
        """The present process of a part."""
        run = self.state.run()
        assert run is not None, "the stack does not run"
        return run.parts[part].pid

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to it and runs."""
        return processes.belonging(self.state.stack_id)

    def open_sockets(self) -> dict[int, str]:
        """Ports that its processes listen on beyond loopback, with the process's name."""
        own = {process.pid: process for process in self.processes()}
        found: dict[int, str] = {}
        for connection in psutil.net_connections(kind="inet"):
            listening = connection.status == psutil.CONN_LISTEN and connection.pid in own
            if listening and connection.laddr and not _is_loopback(connection.laddr.ip):
                found[connection.laddr.port] = own[connection.pid or 0].name()
        return found

    def log_tails(self, lines: int = 25) -> dict[str, str]:
        """The ends of the logs that explain most failures."""
        logs = [self.state.log("operator")]
        serve = self.state.runtime / "ray" / "session_latest" / "logs" / "serve"
        newest = sorted(serve.glob("*.log"), key=lambda path: path.stat().st_mtime)[-4:]
        jobs = sorted(serve.parent.glob("job-driver-*.log"), key=lambda path: path.stat().st_mtime)[-2:]
        return {
            path.name: "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            for path in (*logs, *newest, *jobs)
            if path.is_file()
        }


def _is_loopback(text: str) -> bool:
    """Whether an address is this machine's own, written as IPv4, IPv6 or one within the other."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def lateen(
    *arguments: str, state: Path, timeout: float, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the `lateen` command."""
    return subprocess.run(
        [str(LATEEN), *arguments, "--state-dir", str(state)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(more or {})},
        timeout=timeout,
        check=False,
    )


def kubectl_program() -> Path:
    """The kubectl that hack/tools provides."""
    from lateen_cli import tools

    return tools.locate(os.environ)["kubectl"]


def forget(state: Path) -> None:
    """Remove a state directory."""
    shutil.rmtree(state, ignore_errors=True)
