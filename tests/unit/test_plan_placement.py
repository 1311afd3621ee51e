# SPDX-License-Identifier: Apache-2.0
"""Whether a node can hold a replica, and the words when none can."""

from dataclasses import replace
from typing import Any

import pytest

from lateen_api.conditions import Reason
from lateen_api.model_deployment import Resources
from lateen_operator.plan.placement import crowded, malformed, unschedulable
from lateen_operator.plan.world import World
from lateen_operator.seams import Node, ServeApplication

GIB = 2.0**30
SMALL = Node({"CPU": 8.0, "memory": 16 * GIB})
GPU = Node(
    {"CPU": 4.0, "memory": 64 * GIB, "GPU": 2.0, "accelerator_type:A10G": 1.0}, {"ray.io/market-type": "spot"}
)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cpu": "64"}, "CPU: a replica asks for 64, the largest node has 8"),
        ({"memory": "100Gi"}, "memory: a replica asks for 100Gi, the largest node has 64Gi"),
        ({"gpu": 3}, "GPU: a replica asks for 3, the largest node has 2"),
        ({"acceleratorType": "H100"}, "acceleratorType: no node has H100; there is A10G"),
        (
            {"nodeLabels": {"ray.io/market-type": "reserved"}},
            "nodeLabels: no node has ray.io/market-type: reserved; there is spot",
        ),
        ({"nodeLabels": {"zone": "a"}}, "nodeLabels: no node has zone: a; there is none"),
        ({"cpu": 8, "gpu": 1}, "no node has all of it at once: 8 CPU, 1Gi memory, 1 GPU"),
        ({"cpu": "64", "gpu": 3}, "CPU: a replica asks for 64, the largest node has 8; GPU: a replica asks"),
    ],
)
def test_what_is_missing_is_named_with_numbers(asked: dict[str, Any], words: str) -> None:
    """A user sees what to change, in the spec or in the cluster."""
    verdict = unschedulable(Resources.model_validate(asked), (SMALL, GPU))
    assert verdict is not None
    assert verdict.reason is Reason.UNSCHEDULABLE
    assert words in verdict.message


@pytest.mark.parametrize(
    "asked",
    [
        {"cpu": 8},
        {"cpu": 4, "gpu": "0.5", "acceleratorType": "A10G"},
        {"nodeLabels": {"ray.io/market-type": "spot"}},
    ],
)
def test_what_one_node_has_can_be_placed(asked: dict[str, Any]) -> None:
    """One node that has all of it is enough."""
    assert unschedulable(Resources.model_validate(asked), (SMALL, GPU)) is None


def waiting(message: str = "", since: float = 100.0) -> ServeApplication:
    """An application with a replica that has waited for a node since then; 0: none waits."""
    return ServeApplication("app", "RUNNING", "", 0.0, None, 0, (message,), 1, 1, since)


def test_a_long_wait_for_room_is_told_in_rays_words() -> None:
    """Nodes that are large enough but taken are no silent wait; where Ray says nothing, what is asked for is told."""
    said = (
        "Deployment 'Model' has 1 replicas that have taken more than 30s to be scheduled. Resources: 4 CPU."
    )
    asked, late = Resources(cpu="4"), World(placement_seconds=7, now=107.0)
    loads = "Deployment 'Model' has 1 replicas that have taken more than 30s to initialize."
    for message, words in ((said, said), (loads, "a replica asks for 4 CPU, 1Gi memory"), ("", "4 CPU")):
        verdict = crowded(asked, waiting(message), late)
        assert verdict is not None
        assert (verdict.reason, words in verdict.message) == (Reason.UNSCHEDULABLE, True)
    assert crowded(asked, waiting(said), replace(late, now=106.0)) is None
    assert crowded(asked, waiting(said, since=0.0), late) is None


def test_unknown_nodes_prove_nothing() -> None:
    """While Ray does not say what it has, nothing is refused."""
    assert unschedulable(Resources(cpu="512"), ()) is None


@pytest.mark.parametrize(
    "labels", [{"a b": "x"}, {"zone": "in(a, b)"}, {"zone": "!a"}, {"zone": ""}, {"": "a"}, {"-a": "b"}]
)
def test_what_is_no_label_is_refused_before_ray_sees_it(labels: dict[str, str]) -> None:
    """Ray would refuse the config of all models for it, or take it for an operator."""
    verdict = malformed(Resources(node_labels=labels))
    assert verdict is not None
    assert verdict.reason is Reason.INVALID_SPEC
    assert "spec.resources.nodeLabels" in verdict.message


def test_labels_as_kubernetes_and_ray_write_them_are_taken() -> None:
    """With and without a prefix."""
    labels = {"ray.io/market-type": "spot", "zone": "eu-1_b.c", "topology.kubernetes.io/zone": "1"}
    assert malformed(Resources(node_labels=labels)) is None
