# SPDX-License-Identifier: Apache-2.0
"""The operator's only Ray I/O: Serve REST API, Jobs REST API and the gateway's report, as `seams.Serve`.

Wired by `main.py`, used by `reconcile/`. Every call has a time limit; whatever goes wrong on the way becomes
`RayUnavailable`.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import aiohttp
import structlog

from lateen_api import names
from lateen_api.gateway_report import REPORT_PATH, GatewayReport
from lateen_operator import gateway_reports, ray_replies
from lateen_operator.gateway_probes import Probes
from lateen_operator.seams import Job, JobStatus, Node, RayUnavailable, ServeState
from lateen_operator.settings import OperatorSettings

_CONNECT_SECONDS = 3
_READ = aiohttp.ClientTimeout(total=15, connect=_CONNECT_SECONDS)
_WRITE = aiohttp.ClientTimeout(total=60, connect=_CONNECT_SECONDS)
"""The first PUT starts Ray Serve, which takes seconds, on a busy machine many."""

_PROBE = aiohttp.ClientTimeout(total=3, connect=1)
_REMEMBERED_FAILURES = 1000

log = structlog.get_logger(__name__)


class RayServe:
    """`seams.Serve` over HTTP. To be used as an async context manager, in one event loop."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._url = settings.ray_url.rstrip("/")
        token = settings.ray_token.get_secret_value()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._gateway = f"http://{settings.gateway_host}:{settings.gateway_port}{REPORT_PATH}"
        self._failures: dict[str, str] = {}
        self._probes = Probes(self._probe)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=_READ)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def observe(self) -> ServeState:
        """What runs now; raises RayUnavailable. Nodes are left out when Ray does not tell them."""
        applications = ray_replies.applications(await self._ask("GET", "/api/serve/applications/"))
        gateway = applications.get(names.GATEWAY_APPLICATION)
        said = await self._probes.ask(gateway.running_replicas) if gateway else None
        found = gateway_reports.merged(said)
        nodes = await self._nodes()
        return ServeState(applications, found.catalogs, nodes, found.facts, found.traffic, found.prompt_uses)

    async def apply(self, config: Mapping[str, Any]) -> None:
        """PUT the whole declarative config; raises RayUnavailable."""
        await self._ask("PUT", "/api/serve/applications/", json=dict(config), timeout=_WRITE)

    async def jobs(self) -> Mapping[str, Job]:
        """All jobs whose submission id starts with `lateen-`, by id; raises RayUnavailable."""
        listed = ray_replies.jobs(await self._ask("GET", "/api/jobs/"))
        return {name: await self._explained(job) for name, job in listed.items()}

    async def submit(self, job_id: str, entrypoint: str, files: Mapping[str, bytes]) -> None:
        """Upload `files` as the working directory and submit; a job that exists already is no error."""
        package = package_of(files)
        name = f"_ray_pkg_lateen_{hashlib.sha256(package).hexdigest()[:32]}.zip"
        path = f"/api/packages/gcs/{name}"
        # A GET pins an uploaded package for ten minutes, so that it outlives other jobs that used it.
        uploaded, _ = await self._find("GET", path)
        if not uploaded:
            await self._ask("PUT", path, data=package, timeout=_WRITE)
            await self._ask("GET", path)
        body = {
            "entrypoint": entrypoint,
            "submission_id": job_id,
            "runtime_env": {"working_dir": f"gcs://{name}"},
        }
        try:
            await self._ask("POST", "/api/jobs/", json=body, timeout=_WRITE)
        except RayUnavailable:
            if job_id not in ray_replies.jobs(await self._ask("GET", "/api/jobs/")):
                raise

    async def stop(self, job_id: str) -> None:
        """Ask a job to stop; one that is gone or ended is no error."""
        await self._find("POST", f"/api/jobs/{job_id}/stop")

    async def forget(self, job_id: str) -> None:
        """Delete the record of an ended job; gone is fine. A job that still runs raises RayUnavailable."""
        await self._find("DELETE", f"/api/jobs/{job_id}")
        self._failures.pop(job_id, None)

    async def _explained(self, job: Job) -> Job:
        """`job`, and if it failed for a reason that its log names, with that reason as its message."""
        if job.status is not JobStatus.FAILED:
            return job
        if job.id not in self._failures:
            reason = ray_replies.failure(job.message) or ray_replies.failure(await self._log_of(job.id))
            if len(self._failures) >= _REMEMBERED_FAILURES:
                self._failures.clear()
            self._failures[job.id] = reason or job.message
        return replace(job, message=self._failures[job.id])

    async def _log_of(self, job_id: str) -> str:
        try:
            return ray_replies.logs(await self._ask("GET", f"/api/jobs/{job_id}/logs"))
        except RayUnavailable as error:
            # The node that ran it may be gone; Ray's own message still says that it failed.
            log.warning("no log of a failed job", job=job_id, error=str(error))
            return ""

    async def _nodes(self) -> tuple[Node, ...]:
        try:
            return ray_replies.nodes(await self._ask("GET", "/api/v0/nodes?detail=true&limit=10000"))
        except RayUnavailable as error:
            log.warning("the nodes of Ray are unknown", error=str(error))
            return ()

    async def _probe(self) -> GatewayReport | None:
        """What one replica says; each time over a fresh connection, so that replicas take turns."""
        connector = aiohttp.TCPConnector(force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_PROBE, headers=self._headers) as session,
                session.get(self._gateway, allow_redirects=False) as reply,
            ):
                return ray_replies.gateway_report(await reply.read()) if reply.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.debug("the gateway does not answer", error=_reason(error))
            return None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout = _READ,  # noqa: ASYNC109  # aiohttp enforces it, connect and total apart
        **body: Any,
    ) -> bytes:
        """The reply's body; anything but success raises RayUnavailable."""
        found, content = await self._find(method, path, timeout=timeout, **body)
        if not found:
            raise RayUnavailable(f"{_call(method, path)} answered 404: {ray_replies.explanation(content)}")
        return content

    async def _find(self, method: str, path: str, **options: Any) -> tuple[bool, bytes]:
        """Whether it exists, and the reply's body; a failure other than 404 raises RayUnavailable."""
        if self._session is None:
            raise RuntimeError("RayServe is used outside its context")
        try:
            async with self._session.request(method, self._url + path, **options) as reply:
                content = await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RayUnavailable(f"{_call(method, path)} does not answer: {_reason(error)}") from error
        if not reply.ok and reply.status != 404:
            raise RayUnavailable(
                f"{_call(method, path)} answered {reply.status}: {ray_replies.explanation(content)}"
            )
        return reply.ok, content


def package_of(files: Mapping[str, bytes]) -> bytes:
    """`files` as a zip archive; equal files give equal bytes, so that Ray keeps one copy."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _call(method: str, path: str) -> str:
    return f"Ray ({method} {path.partition('?')[0]})"


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
