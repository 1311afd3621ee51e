# SPDX-License-Identifier: Apache-2.0
"""The figures in the status of a ModelDeployment, from what Ray and the gateway say. Pure; for `plan/model_status.py`.

Figures that waver (memory, seconds to load) are taken once per application, so that a settled world writes nothing.
What nobody can tell at the moment stays as it was.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lateen_api import catalog, names
from lateen_api.gateway_report import Facts
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.model_status import (
    AdapterStatus,
    ModelDeploymentStatus,
    ModelFacts,
    ScalingEvent,
    TrafficShare,
)
from lateen_operator.plan import adapters
from lateen_operator.plan.adapters import Standing
from lateen_operator.plan.models import ModelPlan
from lateen_operator.plan.world import World
from lateen_operator.seams import Resource, ServeApplication
from lateen_operator.status import MAX_MESSAGE, timestamp

API_PATH = "/v1"
"""Where the API is below the gateway's address."""

MAX_SCALING_EVENTS = 10


@dataclass(frozen=True)
class Figures:
    """One model as it serves now, and as its status said so far."""

    resource: Resource
    made: ModelPlan
    world: World

    @property
    def model_id(self) -> str:
        """What clients call it."""
        return names.client_id(self.resource.key.namespace, self.resource.key.name)

    @cached_property
    def before(self) -> ModelDeploymentStatus:
        """The status so far."""
        return ModelDeploymentStatus.model_validate(self.resource.status)

    @cached_property
    def served(self) -> catalog.Model | None:
        """What the gateway serves; None when nothing, or when that is not known."""
        document = self.world.answering
        return next(
            (entry for entry in (document.models if document else ()) if entry.id == self.model_id), None
        )

    @property
    def application(self) -> str | None:
        """The application that serves; the last known one while the gateway does not say."""
        if self.world.answering is None:
            return self.before.application
        return self.served.application if self.served else None

    @property
    def revision(self) -> str | None:
        """The revision that serves, likewise."""
        if self.world.answering is None:
            return self.before.revision
        return self.served.revision if self.served else None

    @cached_property
    def present(self) -> ServeApplication | None:
        """The application whose replicas count: the one that serves, or the first one on its way."""
        wanted = self.made.wanted["name"] if self.made.wanted else ""
        return self.world.serve.applications.get(self.application or wanted)

    @property
    def ready(self) -> int:
        """Replicas that serve."""
        return self.present.running_replicas if self.present and self.application else 0

    @property
    def target(self) -> int:
        """Replicas there should be now."""
        return self.present.target_replicas if self.present else 0

    @property
    def is_same(self) -> bool:
        """Whether the status so far speaks of the same application."""
        return self.application is not None and self.before.application == self.application

    @property
    def said(self) -> Facts | None:
        """What replicas say of the model now."""
        return self.world.serve.facts.get(self.application or "")

    @cached_property
    def adapters(self) -> list[AdapterStatus]:
        """The LoRA adapters of the spec; what can't be known now is as the last status has it."""
        spec, entry = self.made.spec, self.made.entry
        if spec is None:
            return self.before.adapters or []
        known = {each.name: each for each in self.before.adapters or []}
        if self.world.answering is not None or not self.is_same:
            known = {}
        names_ = sorted(adapter.name for adapter in spec.adapters)
        found = adapters.standings(entry, self.resource, spec, self.world) if entry is not None else {}
        return [known.get(name) or self._adapter(name, found.get(name, adapters.LOADING)) for name in names_]

    def _adapter(self, name: str, standing: Standing) -> AdapterStatus:
        return AdapterStatus(
            name=name,
            model_id=f"{self.model_id}:{name}",
            ready=not standing.reason,
            reason=standing.reason or None,
            message=standing.message[:MAX_MESSAGE] or None,
        )

    def scaled(self) -> ScalingEvent | None:
        """The change of the number of replicas since the last status, if any."""
        before, spec = self.before.replicas, self.made.spec
        if not self.is_same or self.present is None or before in (None, self.target) or spec is None:
            return None
        return ScalingEvent(
            time=timestamp(self.world.now),
            from_=before,
            to=self.target,
            reason=_why(spec, before or 0, self.target),
        )

    def values(self) -> dict[str, Any]:
        """The status fields in their outside spelling, without conditions and the last failure."""
        said, scaled = self.said, self.scaled()
        history = [*([scaled] if scaled else []), *(self.before.scaling_history or [])]
        status = ModelDeploymentStatus(
            url=self.world.gateway_url or API_PATH,
            model_id=self.model_id,
            revision=self.revision,
            application=self.application,
            engine=said.engine if said else self._kept(self.before.engine),
            engine_reason=said.engine_reason if said else self._kept(self.before.engine_reason),
            replicas=self.target,
            ready_replicas=self.ready,
            starting_replicas=sum(each.starting_replicas for each in self._involved()),
            failed_replicas=sum(each.failed_replicas for each in self._involved()),
            facts=self._kept(self.before.facts) or (_facts(said) if said else None),
            traffic=self._traffic(),
            adapters=self.adapters or None,
            scaling_history=history[:MAX_SCALING_EVENTS] or None,
            selector=f"lateen.dev/model={self.resource.key.name}",
        )
        return status.dump()

    def _kept(self, value: Any) -> Any:
        return value if self.is_same else None

    def _involved(self) -> list[ServeApplication]:
        """The application that serves and the one that is wanted."""
        wanted = self.made.wanted["name"] if self.made.wanted else ""
        found = (self.world.serve.applications.get(name) for name in {self.application or "", wanted})
        return [each for each in found if each is not None]

    def _traffic(self) -> list[TrafficShare] | None:
        if self.world.answering is None:
            return self.before.traffic
        if self.served is None:
            return None
        canary = self.served.canary
        taken = canary.weight if canary else 0
        shares = [TrafficShare(revision=self.served.revision, weight=100 - taken)]
        return [*shares, TrafficShare(revision=canary.revision, weight=taken)] if canary else shares


def _facts(said: Facts) -> ModelFacts:
    return ModelFacts(
        parameters=said.parameters,
        context_tokens=said.context_tokens,
        dtype=said.dtype,
        memory_bytes=said.memory_bytes,
        load_seconds=math.ceil(said.load_seconds),
    )


def _why(spec: ModelDeploymentSpec, before: int, after: int) -> str:
    if spec.autoscaling is None:
        return "spec.replicas was changed"
    if after == 0:
        return f"no request for {spec.autoscaling.scale_to_zero_delay}"
    if before == 0:
        return "a request woke the model"
    return "the load asks for more" if after > before else "the load asks for fewer"
