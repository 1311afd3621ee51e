# SPDX-License-Identifier: Apache-2.0
"""Whether the present spec of a PromptTemplate may be live. Pure; called by `plan/prompts.py`."""

from dataclasses import dataclass

from pydantic import ValidationError

from lateen_api import rendering
from lateen_api.conditions import Reason
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import includes
from lateen_operator.plan import prompt_includes, prompt_revisions, prompt_targets
from lateen_operator.plan.problems import describe
from lateen_operator.plan.prompt_revisions import Kept, prompt_id
from lateen_operator.plan.world import World
from lateen_operator.seams import Resource
from lateen_operator.status import Verdict, timestamp


@dataclass(frozen=True)
class Checked:
    """A spec that may be live, or why it may not."""

    spec: PromptTemplateSpec | None = None
    expanded: PromptTemplateSpec | None = None
    """The spec with everything that it includes in its place."""
    revision: str = ""
    """Hash of the spec."""
    problem: Verdict | None = None


def check(resource: Resource, world: World) -> Checked:
    """The first thing that keeps the spec from being live; a revision that is kept already was checked before."""
    try:
        spec, revision = world.reader.prompt(resource)
    except ValidationError as error:
        return Checked(problem=Verdict("False", Reason.INVALID_SPEC, describe(error)))
    kept = world.prompt_history.get(resource.uid, ())
    known = prompt_revisions.find(kept, revision)
    if known is not None or spec.suspend:
        return Checked(spec, known.expanded if known else spec, revision)
    taken = None if spec.allow_version_reuse else prompt_revisions.newest(kept, spec.version)
    if taken is not None:
        return Checked(problem=_taken(taken))
    found = _expanded(resource, spec, revision, world)
    return found if found.expanded is None else _fitting(resource, found, world)


def _fitting(resource: Resource, found: Checked, world: World) -> Checked:
    """What was found so far, unless it does not fit its targets. One that is live already is not taken away for that."""
    spec, expanded = found.spec, found.expanded
    assert spec is not None
    assert expanded is not None
    deployed = world.deployed_prompts.get(prompt_id(resource))
    if deployed is not None and deployed.revisions[0].revision == found.revision:
        return found
    targets = prompt_targets.named(expanded, spec.targets)
    problem = prompt_targets.misfit(resource.key.namespace, expanded, targets, world)
    return found if problem is None else Checked(problem=problem)


def _expanded(resource: Resource, spec: PromptTemplateSpec, revision: str, world: World) -> Checked:
    try:
        whole = prompt_includes.expanded(resource, spec, world.prompts, world.prompt_history)
        rendering.check(whole)
    except prompt_includes.NotYetLive as error:
        return Checked(problem=Verdict("False", Reason.REFERENCE_NOT_READY, f"{error}."))
    except includes.ReferenceNotFound as error:
        return Checked(problem=Verdict("False", Reason.REFERENCE_NOT_FOUND, f"{error}."))
    except includes.IncludeCycle as error:
        return Checked(problem=Verdict("False", Reason.INCLUDE_CYCLE, f"{error}."))
    except (includes.IncludeConflict, rendering.InvalidTemplate) as error:
        return Checked(problem=Verdict("False", Reason.INVALID_TEMPLATE, f"{error}."))
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        # No template may stop the plans of all others, whatever a library makes of what is written in it.
        message = f"the template can't be checked: {type(error).__name__}: {str(error)[:200]}"
        return Checked(problem=Verdict("False", Reason.INVALID_TEMPLATE, f"{message}."))
    return Checked(spec, whole, revision)


def _taken(taken: Kept) -> Verdict:
    version = taken.spec.version
    message = (
        f"version {version} was live with other content (revision {taken.revision} of"
        f" {timestamp(taken.stored.created)}); give the new content a new spec.version,"
        " or set spec.allowVersionReuse: true."
    )
    return Verdict("False", Reason.VERSION_IMMUTABLE, message)
