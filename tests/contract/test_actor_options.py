# SPDX-License-Identifier: Apache-2.0
"""`spec.resources` becomes the options of Ray's actors: judged by Ray's own schema and by what Ray makes of it."""

from typing import Any

import pytest
from ray.serve._private.config import ReplicaConfig
from ray.serve.schema import RayActorOptionsSchema

from lateen_api.model_deployment import ModelDeploymentSpec, Resources
from lateen_operator.plan import applications, placement
from lateen_operator.seams import Key, Kind, Node, Resource

GIB = 2.0**30
ACCELERATOR = "accelerator_type:"

CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, float]]] = [
    ({}, {"num_cpus": 1.0, "memory": GIB}, {"CPU": 1.0, "memory": GIB}),
    (
        {"cpu": "500m", "memory": "1536Mi"},
        {"num_cpus": 0.5, "memory": 1.5 * GIB},
        {"CPU": 0.5, "memory": 1.5 * GIB},
    ),
    (
        {"cpu": 16, "memory": "64G", "gpu": 2},
        {"num_cpus": 16.0, "memory": 64e9, "num_gpus": 2.0},
        {"CPU": 16.0, "memory": 64e9, "GPU": 2.0},
    ),
    (
        {"gpu": "0.25", "acceleratorType": "A10G"},
        {"num_cpus": 1.0, "memory": GIB, "num_gpus": 0.25, "accelerator_type": "A10G"},
        {"CPU": 1.0, "memory": GIB, "GPU": 0.25, "accelerator_type:A10G": 0.001},
    ),
    (
        {"nodeLabels": {"zone": "eu-1", "ray.io/market-type": "spot"}},
        {
            "num_cpus": 1.0,
            "memory": GIB,
            "label_selector": {"ray.io/market-type": "spot", "zone": "eu-1"},
        },
        {"CPU": 1.0, "memory": GIB},
    ),
    (
        {"cpu": "0.01m"},
        {"num_cpus": 0.0, "memory": GIB},
        {"CPU": 0.0, "memory": GIB},
    ),
    (
        {"cpu": "1.00001"},
        {"num_cpus": 1.0, "memory": GIB},
        {"CPU": 1.0, "memory": GIB},
    ),
    (
        {"cpu": 0, "memory": 0},
        {"num_cpus": 0.0, "memory": 0.0},
        {"CPU": 0.0, "memory": 0.0},
    ),
]
IDS = [
    "defaults",
    "fractions of a core",
    "whole GPUs",
    "part of a GPU",
    "labels",
    "too little to count",
    "too fine to count",
    "nothing",
]


def options(asked: dict[str, Any]) -> dict[str, Any]:
    """What the operator writes as `ray_actor_options` of the model's deployment."""
    document = {"task": "generate", "source": {"uri": "hf://org/a"}, "replicas": 1, "resources": asked}
    spec = ModelDeploymentSpec.model_validate(document)
    key = Key(Kind.MODEL_DEPLOYMENT, "team", "chat")
    resource = Resource(key, "uid", 1, "1", 0, spec.dump(), {}, {}, (), False)
    (deployment,) = applications.config(resource, spec, None, 0)["deployments"]
    written: dict[str, Any] = deployment["ray_actor_options"]
    return written


def demanded(written: dict[str, Any]) -> dict[str, float]:
    """The amounts that Ray reserves for an actor with these options; raises where Ray refuses them."""
    kept = RayActorOptionsSchema.model_validate(written).model_dump(exclude_unset=True)
    assert kept == written, "Ray would report other options than were sent"
    config = ReplicaConfig.create(object, ray_actor_options=dict(kept))
    amounts: dict[str, float] = config.resource_dict
    return amounts


@pytest.mark.parametrize(("asked", "written", "amounts"), CASES, ids=IDS)
def test_resources_become_ray_actor_options(
    asked: dict[str, Any], written: dict[str, Any], amounts: dict[str, float]
) -> None:
    """Each field has its option, in Ray's units, and Ray reserves just that."""
    assert options(asked) == written
    assert demanded(written) == amounts


@pytest.mark.parametrize(("asked", "written", "amounts"), CASES, ids=IDS)
def test_what_ray_reserves_decides_what_is_unschedulable(
    asked: dict[str, Any], written: dict[str, Any], amounts: dict[str, float]
) -> None:
    """A node with just these amounts and labels can hold a replica; one that has less of any can't."""
    resources = Resources.model_validate(asked)
    labels = written.get("label_selector", {})
    assert placement.unschedulable(resources, (Node(amounts, labels),)) is None
    for name in (name for name, amount in amounts.items() if amount):
        short = amounts | {name: 0.0 if name.startswith(ACCELERATOR) else amounts[name] * 0.99}
        assert placement.unschedulable(resources, (Node(short, labels),)) is not None, name
    for name in labels:
        other = dict(labels) | {name: "elsewhere"}
        assert placement.unschedulable(resources, (Node(amounts, other),)) is not None, name


@pytest.mark.parametrize(
    "refused",
    [{"gpu": "0.333"}, {"gpu": 1.5}, {"cpu": "-1"}, {"memory": "2Gb"}, {"acceleratorType": ""}],
    ids=["too fine a part", "one and a half GPUs", "less than nothing", "no unit", "no name"],
)
def test_what_ray_could_not_reserve_never_gets_there(refused: dict[str, Any]) -> None:
    """The spec refuses amounts that Ray would refuse, or would round."""
    with pytest.raises(ValueError, match=next(iter(refused))):
        options(refused)
