# SPDX-License-Identifier: Apache-2.0
"""What a PromptTemplate becomes: which revision is live, which are kept, what the status says. Pure.

new spec --checked--> kept as a ControllerRevision --next pass--> live in the catalog
spec of a kept revision ---------made the newest--^
spec that is refused: the newest kept revision stays live
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lateen_api import catalog
from lateen_api.conditions import Reason
from lateen_api.prompt_template import PromptTemplateSpec, Targets
from lateen_api.status_types import MAX_LISTED_REVISIONS
from lateen_operator.plan import prompt_budget, prompt_checks, prompt_revisions, prompt_targets
from lateen_operator.plan.prompt_checks import Checked
from lateen_operator.plan.prompt_revisions import Kept, Use, prompt_id
from lateen_operator.plan.world import World
from lateen_operator.seams import Backoff, Event, Resource
from lateen_operator.status import Report, Verdict, timestamp

_OF_TARGETS = (Reason.REFERENCE_NOT_READY, Reason.INCOMPATIBLE)
_TARGET_SECONDS = 3.0
"""Seconds between looks at a prompt that waits for its targets, at most: no event of theirs tells that they fit now."""


@dataclass(frozen=True)
class PromptPlan:
    """What to do about one PromptTemplate."""

    entry: catalog.Prompt | None
    """Its place in the catalog; None while nothing is live."""
    kept: tuple[Kept, ...] = ()
    """Its revisions, newest first, without those that go."""
    revision: str = ""
    """The revision to keep, or to make the newest."""
    number: int = 0
    """The number that revision gets."""
    store: Mapping[str, Any] | None = None
    """Content of a new revision to keep."""
    renumber: str = ""
    """Name of the kept revision that is wanted again and becomes the newest; empty: none."""
    forget: tuple[str, ...] = ()
    """Names of ControllerRevisions that go."""
    uses: tuple[Use, ...] = ()
    """Uses to be noted."""
    problem: Verdict | None = None
    """Why the present spec is not live."""
    targets: Targets | None = None
    """What the live revision is written for."""

    @property
    def writes_first(self) -> bool:
        """Whether something must be written before the present spec can be live."""
        return self.store is not None or bool(self.renumber)


def plan(resource: Resource, world: World) -> PromptPlan:
    """Which revision of `resource` is live and which are kept beside it."""
    checked = prompt_checks.check(resource, world)
    made = _plan(resource, world, checked)
    return replace(made, targets=_targets(made.entry, checked))


def as_is(resource: Resource, world: World) -> PromptPlan:
    """What is deployed of `resource` already, for which no plan can be made."""
    return PromptPlan(None if resource.deleting else world.deployed_prompts.get(prompt_id(resource)))


def _plan(resource: Resource, world: World, checked: Checked) -> PromptPlan:
    kept = world.prompt_history.get(resource.uid, ())
    if checked.problem is not None:
        return PromptPlan(_entry(resource, kept), kept, problem=checked.problem)
    spec = checked.spec
    assert spec is not None
    if spec.suspend:
        suspended = Verdict("True", Reason.SUSPENDED, "spec.suspend is true: changes are ignored")
        return PromptPlan(_entry(resource, kept), kept, problem=suspended)
    wanted = prompt_revisions.find(kept, checked.revision)
    if wanted is None or wanted is not kept[0]:
        return _to_be_newest(resource, world, checked, wanted)
    return _settled(resource, world, spec, kept)


def _to_be_newest(resource: Resource, world: World, checked: Checked, wanted: Kept | None) -> PromptPlan:
    kept, revision = world.prompt_history.get(resource.uid, ()), checked.revision
    number = max((item.number for item in world.kept(resource)), default=0) + 1
    entry = _entry(resource, kept)
    if wanted is not None:
        return PromptPlan(entry, kept, revision, number, renumber=wanted.stored.name)
    deployed = world.deployed_prompts.get(prompt_id(resource))
    if deployed is not None and deployed.revisions[0].revision == revision and not resource.deleting:
        entry = (
            deployed  # somebody has deleted what was kept of it: it is kept again, and clients don't notice
        )
    assert checked.spec is not None
    assert checked.expanded is not None
    before = kept[0].revision if kept else ""
    content = prompt_revisions.content(checked.spec, checked.expanded, before)
    excess = prompt_revisions.excess(content)
    if excess:
        return PromptPlan(entry, kept, problem=Verdict("False", Reason.TOO_LARGE, f"{excess}."))
    return PromptPlan(entry, kept, revision, number, store=content)


def _settled(resource: Resource, world: World, spec: PromptTemplateSpec, kept: Sequence[Kept]) -> PromptPlan:
    reported = world.serve.prompt_uses.get(prompt_id(resource), {})
    pinned = world.pinned_prompts.get((resource.key.namespace, resource.key.name), frozenset())
    surplus = prompt_revisions.surplus(kept[0], spec, kept, pinned, reported, world.now)
    gone = {item.revision for item in surplus}
    staying = tuple(item for item in kept if item.revision not in gone)
    return PromptPlan(
        _entry(resource, staying),
        staying,
        forget=tuple(item.stored.name for item in surplus),
        uses=prompt_revisions.uses(spec, staying, reported),
    )


def _entry(resource: Resource, kept: Sequence[Kept]) -> catalog.Prompt | None:
    if not kept or resource.deleting:
        return None
    return catalog.Prompt(id=prompt_id(resource), revisions=[item.entry for item in kept])


def _targets(entry: catalog.Prompt | None, checked: Checked) -> Targets | None:
    """As the present spec says where it is the live one: targets may change without a new revision."""
    live = entry.revisions[0] if entry else None
    if live is None:
        return None
    is_present = checked.spec is not None and checked.revision == live.revision
    declared = checked.spec.targets if checked.spec is not None and is_present else live.spec.targets
    return prompt_targets.named(live.spec, declared)


def report(resource: Resource, made: PromptPlan, world: World) -> Report:
    """What the status of `resource` says once `made` is carried out."""
    live = made.entry.revisions[0].spec if made.entry else None
    targets = made.targets if made.targets is not None else Targets()
    more = prompt_targets.conditions(resource.key.namespace, live, targets, world) if live is not None else {}
    if not more and not targets.model_refs:
        more = prompt_budget.conditions(resource, live, world.models)
    return replace(_report(resource, made, world), more=more)


def _report(resource: Resource, made: PromptPlan, world: World) -> Report:
    entry, problem = made.entry, made.problem
    live = entry.revisions[0] if entry else None
    fields = _fields(resource, made, world)
    is_served = entry is not None and (world.served_prompts or {}).get(entry.id) == entry
    if problem is not None and problem.status != "True":
        keeps = f" Version {live.spec.version} stays live." if live else ""
        verdict = Verdict("False", problem.reason, problem.message + keeps)
        waiting = problem.reason is Reason.REFERENCE_NOT_READY
        heals = problem.reason in (Reason.REFERENCE_NOT_FOUND, Reason.INCOMPATIBLE)
        longest = _TARGET_SECONDS if problem.reason in _OF_TARGETS and _has_targets(resource) else 30.0
        again = (
            Backoff(1.0, longest, f"{resource.generation} {problem.message}") if waiting or heals else None
        )
        return Report(verdict, reconciling=waiting, stalled=not waiting, fields=fields, again=again)
    if problem is not None and (is_served or entry is None):
        verdict = Verdict("True" if entry else "False", problem.reason, problem.message)
        return Report(verdict, fields=fields)
    if not is_served or made.writes_first:
        verdict = Verdict("False", Reason.PROGRESSING, "waiting for the gateway to take the catalog")
        return Report(verdict, reconciling=True, fields=fields, again=Backoff(0.1, 2.0, made.revision))
    assert live is not None
    verdict = Verdict("True", Reason.READY, f"version {live.spec.version} is live")
    return Report(verdict, fields=fields, events=_rolled_out(resource, live))


def _has_targets(resource: Resource) -> bool:
    """Whether a spec that can be read names models or indexes, or searches some itself."""
    searches = any(each.get("retrieval") for each in resource.spec.get("variables") or ())
    return searches or bool(resource.spec.get("targets"))


def _fields(resource: Resource, made: PromptPlan, world: World) -> dict[str, Any]:
    """The revision that clients are served, the last known one while the gateway does not say; and the history."""
    wanted = prompt_id(resource)
    if world.served_prompts is None:
        live, version = (resource.status.get(name) for name in ("revision", "version"))
    else:
        entry = world.served_prompts.get(wanted)
        live = entry.revisions[0].revision if entry else None
        version = entry.revisions[0].spec.version if entry else None
    history = [_listed(item, live) for item in made.kept[:MAX_LISTED_REVISIONS]]
    return {"promptId": wanted, "revision": live, "version": version, "history": history or None}


def _listed(item: Kept, live: str | None) -> dict[str, Any]:
    previous = {"previous": item.previous} if item.previous else {}
    return {
        "version": item.spec.version,
        "revision": item.revision,
        "created": timestamp(item.stored.created),
        **previous,
        "state": "Live" if item.revision == live else "Superseded",
    }


def _rolled_out(resource: Resource, live: catalog.PromptRevision) -> tuple[Event, ...]:
    if resource.status.get("revision") in (None, live.revision):
        return ()
    message = f"version {live.spec.version} (revision {live.revision}) is live"
    return (Event("Normal", Reason.ROLLED_OUT.value, message),)
