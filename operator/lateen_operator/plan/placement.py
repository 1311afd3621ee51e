# SPDX-License-Identifier: Apache-2.0
"""Whether any Ray node can hold a replica, and what is missing where none can. Pure; called by `plan/models.py`
and `plan/applications.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from lateen_api.conditions import Reason
from lateen_api.model_deployment import Resources
from lateen_api.quantities import quantity
from lateen_operator.plan.world import World
from lateen_operator.seams import Node, ServeApplication
from lateen_operator.status import Verdict

_SLOW = "to be scheduled"
"""In Ray's words about a deployment whose replicas have waited for half a minute."""

_ACCELERATOR = "accelerator_type:"
_WORD = r"[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?"
_LABEL = re.compile(rf"([a-zA-Z0-9]([-a-zA-Z0-9.]{{0,251}}[a-zA-Z0-9])?/)?{_WORD}")


def cores(asked: Resources) -> float:
    """Cores to ask Ray for, in the ten-thousandths that it counts: it refuses what is finer."""
    return round(quantity(asked.cpu), 4)


def malformed(asked: Resources) -> Verdict | None:
    """What of `asked` Ray would refuse, and with it the config of all models; None when it takes it."""
    for name, value in sorted(asked.node_labels.items()):
        if not _LABEL.fullmatch(name) or not re.fullmatch(_WORD, value):
            message = f"spec.resources.nodeLabels: {name!r}: {value!r} is not a label such as ray.io/market-type: spot"
            return Verdict("False", Reason.INVALID_SPEC, message)
    return None


def crowded(asked: Resources, application: ServeApplication, world: World) -> Verdict | None:
    """The verdict where a replica of `application` has waited for `world.placement_seconds` for a node that has room: all
    that are large enough are taken. None where none has. Ray's own words have the numbers; it says them now and then only.
    """
    since = application.unplaced_since
    if not since or world.now - since < world.placement_seconds:
        return None
    said = next((message for message in application.deployment_messages if _SLOW in message), "")
    told = " ".join(said.split())[:400] or f"a replica asks for {_listed(_words(asked))}"
    return Verdict("False", Reason.UNSCHEDULABLE, f"no node has room now: {told}")


def shortage(asked: Resources, application: ServeApplication, world: World) -> Verdict | None:
    """Why `application` has fewer replicas than it should; None where it has all, or where nodes are not the reason."""
    if application.running_replicas >= application.target_replicas:
        return None
    return unschedulable(asked, world.serve.nodes) or crowded(asked, application, world)


def unschedulable(asked: Resources, nodes: Sequence[Node]) -> Verdict | None:
    """Why no node can hold a replica; None when one can, or when the nodes are not known.

    Only what nodes have in all counts: what others use now may become free.
    """
    wanted = _amounts(asked)
    if not nodes or any(_fits(wanted, asked.node_labels, node) for node in nodes):
        return None
    lacking = [*_lacking_amounts(wanted, nodes), *_lacking_labels(asked.node_labels, nodes)]
    message = "; ".join(lacking) or f"no node has all of it at once: {_listed(_words(asked))}"
    return Verdict("False", Reason.UNSCHEDULABLE, message)


def _amounts(asked: Resources) -> dict[str, float]:
    amounts = {"CPU": cores(asked), "memory": quantity(asked.memory), "GPU": float(asked.gpu)}
    if asked.accelerator_type:
        amounts[_ACCELERATOR + asked.accelerator_type] = 0.001  # what Ray asks for
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _fits(wanted: Mapping[str, float], labels: Mapping[str, str], node: Node) -> bool:
    enough = all(node.resources.get(name, 0.0) >= amount for name, amount in wanted.items())
    return enough and labels.items() <= node.labels.items()


def _lacking_amounts(wanted: Mapping[str, float], nodes: Sequence[Node]) -> Iterable[str]:
    for name, amount in wanted.items():
        most = max(node.resources.get(name, 0.0) for node in nodes)
        if most >= amount:
            continue
        if name.startswith(_ACCELERATOR):
            kinds = sorted({key.removeprefix(_ACCELERATOR) for key in _accelerators(nodes)})
            yield (
                f"acceleratorType: no node has {name.removeprefix(_ACCELERATOR)}; there is {_listed(kinds)}"
            )
        else:
            yield f"{name}: a replica asks for {_shown(name, amount)}, the largest node has {_shown(name, most)}"


def _accelerators(nodes: Sequence[Node]) -> Iterable[str]:
    return (key for node in nodes for key in node.resources if key.startswith(_ACCELERATOR))


def _lacking_labels(labels: Mapping[str, str], nodes: Sequence[Node]) -> Iterable[str]:
    for name, value in sorted(labels.items()):
        if any(node.labels.get(name) == value for node in nodes):
            continue
        known = sorted({node.labels[name] for node in nodes if name in node.labels})
        yield f"nodeLabels: no node has {name}: {value}; there is {_listed(known)}"


def _words(asked: Resources) -> list[str]:
    words = [f"{_shown(name, amount)} {name}" for name, amount in _amounts(asked).items() if ":" not in name]
    kind = [f"acceleratorType {asked.accelerator_type}"] if asked.accelerator_type else []
    return [*words, *kind, *(f"{name}: {value}" for name, value in sorted(asked.node_labels.items()))]


def _shown(name: str, amount: float) -> str:
    return f"{amount / 2**30:.3g}Gi" if name == "memory" else f"{amount:g}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:8]) or "none"
