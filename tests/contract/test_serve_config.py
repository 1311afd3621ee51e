# SPDX-License-Identifier: Apache-2.0
"""The Serve config that the operator writes is one that Ray Serve takes: it refuses the whole for one bad entry."""

from typing import Any

import pytest
from ray.serve._private.constants import DEFAULT_REQUEST_ROUTER_PATH
from ray.serve.schema import ServeDeploySchema

from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.serve_config import GATEWAY_MAX_ONGOING_REQUESTS, ModelArguments, ModelUserConfig
from lateen_operator.plan import applications, serving
from lateen_operator.plan.world import ServingOptions, World
from lateen_operator.seams import Key, Kind, Resource

# Ray announces that the interval will move to a variable; until then it is the setting.
pytestmark = pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning")

SOURCE = {"uri": "s3://bucket/a", "secretRef": {"name": "s3"}, "digest": "sha256:" + "0" * 64}
SPECS: dict[str, dict[str, Any]] = {
    "fixed": {"replicas": 2},
    "autoscaled": {"autoscaling": {"minReplicas": 0, "maxReplicas": 3}},
    "placed": {
        "replicas": 1,
        "resources": {
            "cpu": "500m",
            "memory": "2Gi",
            "gpu": "0.5",
            "acceleratorType": "H100",
            "nodeLabels": {"ray.io/market-type": "spot"},
        },
    },
    "extreme limits": {"replicas": 1, "limits": {"maxQueuedRequests": 1, "maxOngoingRequests": 4096}},
    "adapted": {
        "replicas": 1,
        "adapters": [{"name": "sales", "uri": "hf://org/sales", "secretRef": {"name": "hub"}}],
        "engine": {"kvCacheMemory": "2Gi", "maxModelLen": 512},
    },
}


def resource(spec: dict[str, Any]) -> Resource:
    """A ModelDeployment."""
    whole = ModelDeploymentSpec.model_validate({"task": "generate", "source": SOURCE, **spec}).dump()
    key = Key(Kind.MODEL_DEPLOYMENT, "team", "chat")
    return Resource(key, "uid", 1, "1", 0, whole, {}, {}, (), False)


@pytest.fixture(autouse=True)
def rays_own_router(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray imports the router's class to check a config; what is checked here is the rest."""
    monkeypatch.setattr(applications, "ROUTER_CLASS", DEFAULT_REQUEST_ROUTER_PATH)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_ray_serve_takes_the_config_of_any_spec(spec: dict[str, Any]) -> None:
    """What users may ask for never makes Ray refuse the document, and with it everybody's models."""
    plan = serving.compose(World(models=(resource(spec),)), ServingOptions(), frozenset())
    taken = ServeDeploySchema.model_validate(plan.config)
    model = next(each for each in taken.applications if each.name != "gateway")
    (deployment,) = model.deployments
    assert ModelArguments.model_validate(model.args).uri == SOURCE["uri"]
    ModelUserConfig.model_validate(deployment.user_config)


def test_what_ray_keeps_of_a_config_is_what_was_sent() -> None:
    """Ray reports the config as it dumps it: the comparison with the wanted one must not see a difference."""
    spec = SPECS["autoscaled"] | {"adapters": SPECS["adapted"]["adapters"]}
    plan = serving.compose(World(models=(resource(spec),)), ServingOptions(), frozenset())
    kept = ServeDeploySchema.model_validate(plan.config).model_dump(exclude_unset=True)
    for sent, reported in zip(plan.config["applications"], kept["applications"], strict=True):
        assert serving.contains(reported, sent)


def test_ray_lets_in_what_the_gateway_refuses_and_bounds_the_rest() -> None:
    """The gateway's own refusal comes before Ray's, which speaks plain text but says when to come back."""
    plan = serving.compose(World(), ServingOptions(), frozenset())
    ((deployment,),) = (
        each.deployments for each in ServeDeploySchema.model_validate(plan.config).applications
    )
    assert deployment.max_ongoing_requests > GATEWAY_MAX_ONGOING_REQUESTS
    assert 0 < deployment.max_queued_requests < 10_000
    assert (deployment.backpressure_config.status_code, deployment.backpressure_config.retry_after_s) == (
        503,
        1,
    )
