# SPDX-License-Identifier: Apache-2.0
"""Runs `direct.py` as a job on the stack's Ray and reads what it printed."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from stack.parts import RayServe
from stack.waiting import wait_for

SCRIPT = Path(__file__).with_name("direct.py")


def run(ray: RayServe, order: dict[str, Any], timeout: float = 600) -> dict[str, Any]:
    """The result of one order."""
    command = shlex.join([sys.executable, str(SCRIPT), json.dumps(order)])
    reply = ray.http.post("/api/jobs/", json={"entrypoint": command})
    reply.raise_for_status()
    job = reply.json()["submission_id"]
    ended = ("SUCCEEDED", "FAILED", "STOPPED")
    wait_for(lambda: _status(ray, job) in ended, timeout, f"job {job} does not end", interval=0.5)
    logs = str(ray.http.get(f"/api/jobs/{job}/logs").json()["logs"])
    found = [line.removeprefix("RESULT ") for line in logs.splitlines() if line.startswith("RESULT ")]
    assert found, f"the job gave no result:\n{logs[-3000:]}"
    result: dict[str, Any] = json.loads(found[-1])
    ray.http.delete(f"/api/jobs/{job}").raise_for_status()
    return result


def _status(ray: RayServe, job: str) -> str:
    return str(ray.http.get(f"/api/jobs/{job}").json()["status"])
