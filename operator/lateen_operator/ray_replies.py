# SPDX-License-Identifier: Apache-2.0
"""What Ray's REST APIs answer, read into the operator's own values; used by `ray.py`, no I/O.

Only the fields the operator needs are named; everything else Ray says is ignored.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from lateen_api.gateway_report import GatewayReport
from lateen_api.serve_config import REPLICA_FAILURE
from lateen_operator.seams import Job, JobStatus, Node, RayUnavailable, ServeApplication

JOB_PREFIX = "lateen-"
MAX_MESSAGE = 8000
"""Characters kept of a message of Ray's; the end, where the reason stands."""

MAX_EXPLANATION = 300
"""Characters kept of an error reply."""

_RAISED = re.compile(r"[\w.]+(Error|Exception): \S")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FAILURE = re.compile(rf"{REPLICA_FAILURE} \w+: [^\n]*")


_SERVES = ("RUNNING", "UPDATING", "PENDING_MIGRATION")
_STARTS = ("STARTING", "RECOVERING")
_UNWELL = ("REPLICA_STARTUP_FAILED", "HEALTH_CHECK_FAILED")


class _Replica(BaseModel):
    state: str = ""
    start_time_s: float = 0.0
    node_id: str | None = None

    @property
    def is_unplaced(self) -> bool:
        # Ray names the node as soon as the replica's process is there, long before the model is loaded.
        return self.state == "STARTING" and self.node_id is None


class _Deployment(BaseModel):
    message: str = ""
    status_trigger: str = ""
    target_num_replicas: int = 0
    replicas: list[_Replica] = []
    recent_dead_replicas: list[_Replica] = []

    def died(self, since: float) -> int:
        # Ray lists replicas that it stopped for good reasons beside those that failed, and never forgets
        # them: only while it calls the deployment unwell are those of the present deploy the failed ones.
        if self.status_trigger not in _UNWELL:
            return 0
        return max(1, sum(replica.start_time_s >= since for replica in self.recent_dead_replicas))


class _Application(BaseModel):
    name: str
    status: str
    message: str = ""
    last_deployed_time_s: float = 0.0
    deployed_app_config: dict[str, Any] | None = None
    deployments: dict[str, _Deployment] = {}

    def value(self) -> ServeApplication:
        deployments = self.deployments.values()
        replicas = [replica for each in deployments for replica in each.replicas]
        states = [replica.state for replica in replicas]
        messages = (clean(each.message) for each in deployments)
        return ServeApplication(
            name=self.name,
            status=self.status,
            message=clean(self.message),
            deployed_at=self.last_deployed_time_s,
            config=self.deployed_app_config,
            running_replicas=sum(state in _SERVES for state in states),
            deployment_messages=tuple(message for message in messages if message),
            target_replicas=sum(each.target_num_replicas for each in deployments),
            starting_replicas=sum(state in _STARTS for state in states),
            unplaced_since=min((each.start_time_s for each in replicas if each.is_unplaced), default=0.0),
            failed_replicas=sum(each.died(self.last_deployed_time_s) for each in deployments),
        )


class _Instance(BaseModel):
    applications: dict[str, _Application] = {}


class _Node(BaseModel):
    state: str
    resources_total: dict[str, float] | None = None
    labels: dict[str, str] | None = None


class _NodeRows(BaseModel):
    result: list[_Node]


class _NodeData(BaseModel):
    result: _NodeRows


class _Nodes(BaseModel):
    data: _NodeData


class _Job(BaseModel):
    submission_id: str | None = None
    status: JobStatus
    message: str | None = None
    start_time: int | None = None
    end_time: int | None = None

    def value(self, job_id: str) -> Job:
        return Job(
            id=job_id,
            status=self.status,
            message=clean(self.message or ""),
            started_at=(self.start_time or 0) / 1000,
            ended_at=(self.end_time or 0) / 1000,
        )


class _Logs(BaseModel):
    logs: str | None = None


_JOBS = TypeAdapter(list[_Job])


def clean(message: str) -> str:
    """A message of Ray's without terminal colours, at most its last `MAX_MESSAGE` characters."""
    return _ANSI.sub("", message)[-MAX_MESSAGE:]


def explanation(body: bytes) -> str:
    """What an error reply says: of a traceback the line that names the error, of anything else the beginning."""
    lines = clean(body.decode(errors="replace")).splitlines()
    said = [line.strip() for line in lines if line.strip(" .") and "errors.pydantic.dev" not in line]
    raised = [line for line in said if _RAISED.match(line)]
    text = raised[-1] if raised else " ".join(said)
    return text[:MAX_EXPLANATION] or "no explanation"


def failure(text: str) -> str | None:
    """The last `lateen-failure Reason: message` line of a log; None when there is none."""
    found = _FAILURE.findall(_ANSI.sub("", text))
    return found[-1].strip() if found else None


def applications(body: bytes) -> Mapping[str, ServeApplication]:
    """Applications by name from `GET /api/serve/applications/`; empty when Serve does not run."""
    try:
        instance = _Instance.model_validate_json(body)
    except ValidationError as error:
        raise _unreadable("Serve", error) from error
    return {name: application.value() for name, application in instance.applications.items()}


def nodes(body: bytes) -> tuple[Node, ...]:
    """The nodes alive, from `GET /api/v0/nodes`."""
    try:
        listed = _Nodes.model_validate_json(body).data.result.result
    except ValidationError as error:
        raise _unreadable("state", error) from error
    return tuple(
        Node(node.resources_total or {}, node.labels or {}) for node in listed if node.state == "ALIVE"
    )


def jobs(body: bytes) -> Mapping[str, Job]:
    """Our jobs by submission id, from `GET /api/jobs/`."""
    try:
        listed = _JOBS.validate_json(body)
    except ValidationError as error:
        raise _unreadable("Jobs", error) from error
    ours = ((job.submission_id, job) for job in listed)
    return {name: job.value(name) for name, job in ours if name and name.startswith(JOB_PREFIX)}


def logs(body: bytes) -> str:
    """The log of a job, from `GET /api/jobs/ID/logs`."""
    try:
        return _Logs.model_validate_json(body).logs or ""
    except ValidationError as error:
        raise _unreadable("Jobs", error) from error


def gateway_report(body: bytes) -> GatewayReport | None:
    """What a gateway replica reports; None when it is not a report that this version can read."""
    try:
        return GatewayReport.model_validate_json(body)
    except ValidationError:
        return None


def _unreadable(api: str, error: ValidationError) -> RayUnavailable:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return RayUnavailable(f"Ray's {api} API answered something unexpected at '{place}': {first['msg']}")
