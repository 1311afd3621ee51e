# SPDX-License-Identifier: Apache-2.0
"""What a PromptTemplate becomes: which revision is live, which are kept, what the status says. Pure."""

from dataclasses import dataclass

from pydantic import ValidationError

from lateen_api import catalog, names, rendering
from lateen_api.conditions import Reason
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_operator.plan.problems import describe
from lateen_operator.plan.world import World
from lateen_operator.seams import Event, Resource, StoredRevision
from lateen_operator.status import Report, Verdict

HISTORY = 10
"""Revisions kept of each prompt, the live one included."""


@dataclass(frozen=True)
class PromptPlan:
    """What to do about one PromptTemplate."""

    entry: catalog.Prompt | None
    """Its place in the catalog; None while nothing is live."""
    store: PromptTemplateSpec | None = None
    """A new revision to keep."""
    number: int = 0
    """That revision's number."""
    forget: tuple[str, ...] = ()
    """Names of ControllerRevisions beyond the history."""
    problem: Verdict | None = None
    """Why the present spec is not live."""


def plan(resource: Resource, world: World) -> PromptPlan:
    """Which revision of `resource` is live and which are kept beside it."""
    stored = world.revisions.get(resource.uid, ())
    kept = [item for item in (_readable(stored_item) for stored_item in stored) if item is not None]
    spec, problem = _usable(resource)
    if spec is None or spec.suspend:
        suspended = Verdict("True", Reason.SUSPENDED, "spec.suspend is true: changes are ignored")
        live = next((item for item in kept if item.revision == resource.status.get("revision")), None)
        return PromptPlan(_entry(resource, live, kept), problem=problem or suspended)
    live = catalog.PromptRevision(revision=spec.revision(), spec=spec)
    is_new = all(item.revision != live.revision for item in stored)
    number = max((item.number for item in stored), default=0) + 1
    older = [item.name for item in stored if item.revision != live.revision]
    forget = tuple(older[HISTORY - 1 :])
    return PromptPlan(_entry(resource, live, kept), spec if is_new else None, number, forget)


def report(resource: Resource, made: PromptPlan, world: World) -> Report:
    """What the status of `resource` says once `made` is carried out."""
    entry = made.entry
    live = entry.revisions[0] if entry else None
    served = world.served_catalog
    fields = _fields(resource, world)
    is_served = entry is not None and served is not None and entry in served.prompts
    if made.problem is not None and made.problem.status != "True":
        keeps = f" Version {live.spec.version} stays live." if live else ""
        verdict = Verdict("False", made.problem.reason, made.problem.message + keeps)
        return Report(verdict, stalled=True, fields=fields)
    if made.problem is not None and (is_served or entry is None):
        return Report(
            Verdict("True" if entry else "False", made.problem.reason, made.problem.message), fields=fields
        )
    if not is_served:
        verdict = Verdict("False", Reason.PROGRESSING, "waiting for the gateway to take the catalog")
        return Report(verdict, reconciling=True, fields=fields, again=0.3)
    assert live is not None
    verdict = Verdict("True", Reason.READY, f"version {live.spec.version} is live")
    return Report(verdict, fields=fields, events=_rolled_out(resource, live))


def _fields(resource: Resource, world: World) -> dict[str, str | None]:
    """The revision that clients are served; the last known one while the gateway does not say."""
    wanted = names.client_id(resource.key.namespace, resource.key.name)
    if world.served_catalog is None:
        known = {name: resource.status.get(name) for name in ("revision", "version")}
        return {"promptId": wanted, **known}
    entry = next((entry for entry in world.served_catalog.prompts if entry.id == wanted), None)
    live = entry.revisions[0] if entry else None
    return {
        "promptId": wanted,
        "revision": live.revision if live else None,
        "version": live.spec.version if live else None,
    }


def _usable(resource: Resource) -> tuple[PromptTemplateSpec | None, Verdict | None]:
    try:
        spec = PromptTemplateSpec.model_validate(resource.spec)
        rendering.check(spec)
    except ValidationError as error:
        return None, Verdict("False", Reason.INVALID_SPEC, describe(error))
    except rendering.InvalidTemplate as error:
        return None, Verdict("False", Reason.INVALID_TEMPLATE, str(error))
    return spec, None


def _readable(stored: StoredRevision) -> catalog.PromptRevision | None:
    # A revision kept by another version of the operator may use fields this one does not know.
    try:
        return catalog.PromptRevision(
            revision=stored.revision, spec=PromptTemplateSpec.model_validate(stored.data)
        )
    except ValidationError:
        return None


def _entry(
    resource: Resource, live: catalog.PromptRevision | None, kept: list[catalog.PromptRevision]
) -> catalog.Prompt | None:
    if live is None or resource.deleting:
        return None
    older = [item for item in kept if item.revision != live.revision][: HISTORY - 1]
    return catalog.Prompt(
        id=names.client_id(resource.key.namespace, resource.key.name), revisions=[live, *older]
    )


def _rolled_out(resource: Resource, live: catalog.PromptRevision) -> tuple[Event, ...]:
    if resource.status.get("revision") in (None, live.revision):
        return ()
    message = f"version {live.spec.version} (revision {live.revision}) is live"
    return (Event("Normal", Reason.ROLLED_OUT.value, message),)
