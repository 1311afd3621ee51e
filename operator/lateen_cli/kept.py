# SPDX-License-Identifier: Apache-2.0
"""Resources that have a history and the revisions kept of them, read through kubectl. Used by `revisions.py` and
`render.py`; all but `load` and `cluster` is pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lateen_api import crd, names
from lateen_cli import tools
from lateen_cli.kubectl import Kubectl, Refused
from lateen_cli.state import StateDir, Unusable


class Kind(Enum):
    """The kinds whose revisions are kept as ControllerRevisions."""

    MODEL = crd.MODEL_DEPLOYMENT
    PROMPT = crd.PROMPT_TEMPLATE
    INDEX = crd.RAG_INDEX

    @property
    def resource(self) -> str:
        """What kubectl calls it."""
        return f"{self.value.plural}.{names.GROUP}"

    @property
    def words(self) -> tuple[str, ...]:
        """What users may call it."""
        return (self.value.short, self.value.name.lower(), self.value.plural, self.resource)


@dataclass(frozen=True)
class Target:
    """What `KIND/NAME` names."""

    kind: Kind
    name: str


@dataclass(frozen=True)
class Revision:
    """One kept revision."""

    name: str
    """Name of its ControllerRevision."""
    revision: str
    number: int
    created: str
    aborted: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A resource and its revisions, newest first."""

    resource: Mapping[str, Any]
    revisions: Sequence[Revision]

    @property
    def listed(self) -> str:
        """The kept revisions as an error lists them."""
        return ", ".join(each.revision for each in self.revisions) or "none"


def target(text: str, *kinds: Kind) -> Target:
    """What `text` names; Unusable for anything but `KIND/NAME` of one of `kinds`."""
    word, slash, name = text.partition("/")
    kind = next((kind for kind in kinds if word.lower() in kind.words), None)
    if not slash or kind is None or not name or "/" in name:
        forms = " or ".join(f"{kind.value.short}/NAME ({kind.value.name})" for kind in kinds)
        raise Unusable(f"{text!r} is not {forms}.")
    return Target(kind, name)


def cluster(state_dir: Path | None, environment: Mapping[str, str]) -> Kubectl:
    """Access to the stack that is named, else for the user's own cluster, else for the default stack."""
    program = tools.find("kubectl", environment)
    if program is None:
        raise Unusable("kubectl is missing: install it, or run: python3 hack/tools")
    state = StateDir.at(state_dir) if state_dir else StateDir.at_default()
    if state_dir is not None and not state.kubeconfig.is_file():
        raise Unusable(f"There is no stack in {state.root}. Start one: lateen up --state-dir {state.root}")
    if state_dir is None and ("KUBECONFIG" in environment or not state.kubeconfig.is_file()):
        return Kubectl(program)
    return Kubectl(program, state.kubeconfig, state.cache("lateen"))


async def load(kubectl: Kubectl, wanted: Target, namespace: str | None) -> Kept:
    """The resource and its revisions; Unusable where kubectl says no."""
    place = ("--namespace", namespace) if namespace else ()
    try:
        resource = json.loads(
            await kubectl.run("get", wanted.kind.resource, wanted.name, *place, "--output=json")
        )
        metadata = resource["metadata"]
        found = await kubectl.run(
            "get",
            "controllerrevisions.apps",
            f"--namespace={metadata['namespace']}",
            f"--selector={names.OWNER_LABEL}={metadata['uid']}",
            "--output=json",
        )
    except Refused as error:
        raise Unusable(str(error)) from error
    return kept(resource, json.loads(found)["items"])


def kept(resource: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Kept:
    """A resource and its revisions, out of what kubectl prints."""
    revisions = [
        Revision(
            name=item["metadata"]["name"],
            revision=item["metadata"]["labels"].get(names.REVISION_LABEL, ""),
            number=item.get("revision", 0),
            created=item["metadata"].get("creationTimestamp", ""),
            aborted=(item["metadata"].get("annotations") or {}).get(names.ABORTED_ANNOTATION, ""),
            data=item.get("data") or {},
        )
        for item in items
    ]
    return Kept(resource, sorted(revisions, key=lambda each: -each.number))
