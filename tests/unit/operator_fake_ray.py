# SPDX-License-Identifier: Apache-2.0
"""Ray behind the operator's seam, in a `FakeWorld`: it keeps the config, restarts what Ray 2.60 restarts, and scales."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lateen_api.gateway_report import AdapterFact, Facts
from lateen_api.serve_config import AdapterArguments
from lateen_operator.seams import Job, JobStatus, ServeApplication, ServeState

if TYPE_CHECKING:
    from unit.operator_fakes import FakeWorld

FACTS = Facts(
    parameters=100,
    context_tokens=512,
    dtype="float32",
    memory_bytes=12345,
    load_seconds=1.2,
    engine="transformers",
    engine_reason="there is no GPU",
)


class FakeServe:
    """Ray of a FakeWorld."""

    lagging: frozenset[str] = frozenset()
    """Catalogs that other replicas of the gateway still serve."""

    def __init__(self, world: "FakeWorld") -> None:
        self.world = world

    async def observe(self) -> ServeState:
        world = self.world
        adapted = {name: found for name, app in world.applications.items() if (found := _adapted(app))}
        facts, traffic = adapted | world.facts, dict(world.traffic)
        uses = copy.deepcopy(world.prompt_uses)
        catalogs = self.lagging | ({world.served_catalog} if world.served_catalog else set())
        return ServeState(dict(world.applications), catalogs, world.nodes, facts, traffic, uses)

    async def apply(self, config: Mapping[str, Any]) -> None:
        wanted = {entry["name"]: json.loads(json.dumps(entry)) for entry in config["applications"]}
        for name, app in self.world.applications.items():
            if name not in wanted:
                self.world.applications[name] = replace(app, status="DELETING")
        for name, entry in wanted.items():
            self.world.applications[name] = self._deployed(name, entry)
        self.world.wrote("serve config")

    def _deployed(self, name: str, entry: dict[str, Any]) -> ServeApplication:
        present = self.world.applications.get(name)
        deployed = present.config if present and present.status != "DELETING" else None
        if present is None or deployed is None or _version(deployed) != _version(entry):
            self.world.restarts.append(name)
            target = _target(entry, 1)
            return ServeApplication(
                name,
                "DEPLOYING",
                "",
                self.world.now,
                entry,
                0,
                target_replicas=target,
                starting_replicas=target,
            )
        if deployed == entry:
            return present
        target = _target(entry, present.target_replicas)
        running = target if present.status == "RUNNING" else present.running_replicas
        return replace(present, config=entry, running_replicas=running, target_replicas=target)

    async def jobs(self) -> Mapping[str, Job]:
        return dict(self.world.jobs)

    async def submit(self, job_id: str, entrypoint: str, files: Mapping[str, bytes]) -> None:
        if job_id not in self.world.jobs:
            self.world.requests[job_id] = json.loads(files["build.json"])
            self.world.jobs[job_id] = Job(job_id, JobStatus.RUNNING, "", self.world.now, 0.0)
        self.world.wrote(f"job {job_id}")

    async def stop(self, job_id: str) -> None:
        job = self.world.jobs[job_id]
        self.world.jobs[job_id] = replace(job, status=JobStatus.STOPPED, ended_at=self.world.now)
        self.world.wrote(f"stop {job_id}")

    async def forget(self, job_id: str) -> None:
        self.world.jobs.pop(job_id, None)
        self.world.wrote(f"forget {job_id}")


def _adapted(app: ServeApplication) -> Facts | None:
    """What replicas say that have loaded all adapters they were told of, unless a test says otherwise."""
    if app.status != "RUNNING" or app.config is None:
        return None
    told = (app.config["deployments"][0].get("user_config") or {}).get("adapters") or []
    loaded = {
        each["name"]: AdapterFact(identity=AdapterArguments.model_validate(each).identity) for each in told
    }
    return FACTS.model_copy(update={"adapters": loaded}) if loaded else None


def _version(entry: Mapping[str, Any]) -> list[Any]:
    """What Ray compares to decide whether replicas are started anew."""
    deployments = entry["deployments"]
    kept = [[each.get(key) for key in ("request_router_config", "ray_actor_options")] for each in deployments]
    return [entry["import_path"], entry["args"], kept]


def _target(entry: Mapping[str, Any], present: int) -> int:
    """Replicas after a changed entry: autoscaled ones go back to their first number, if there is one."""
    deployment = entry["deployments"][0]
    scaling = deployment.get("autoscaling_config")
    if scaling is None:
        return int(deployment["num_replicas"])
    first, least, most = (scaling[f"{word}_replicas"] for word in ("initial", "min", "max"))
    return min(max(present if first is None else int(first), int(least)), int(most))
