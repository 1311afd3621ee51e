# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document is true: schemathesis sends what it allows and what it forbids, and judges the replies."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from lateen_serving.gateway import openapi
from unit.gateway_fakes import KEY, World, events, passage, with_logprobs

CHECKS: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
KNOWN = {
    "ChatRequest": ["chatty", "chatty:support"],
    "CompletionRequest": ["chatty"],
    "ResponsesRequest": ["chatty"],
    "EmbeddingsRequest": ["minilm"],
    "RerankRequest": ["ranker"],
}
OPERATIONS = [
    (path, method, mode)
    for path, methods in openapi.document()["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    if mode == GenerationMode.POSITIVE or "requestBody" in operation
]


def world() -> World:
    """A gateway whose models answer with log probabilities and whose index finds something."""
    world = World()
    world.search.passages["handbook"] = [passage("hb/leave.md", "28 days")]
    world.models.default = list(with_logprobs(events("Hello", " world"), 1))
    return world


def schema(world: World) -> Any:
    """The document, with models and indexes that exist, so that requests get further than to a 404."""
    document = openapi.document()
    schemas = document["components"]["schemas"]
    for name, models in KNOWN.items():
        schemas[name]["properties"]["model"] = {"enum": models}
    loaded = schemathesis.openapi.from_dict(document)
    loaded.app = world.app
    return loaded


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_replies_are_as_described(path: str, method: str, mode: GenerationMode) -> None:
    """No request, allowed or not, gets a 5xx or a reply that the document doesn't describe; forbidden ones get a 4xx."""
    gateway = world()
    operation = schema(gateway)[path][method]

    @seed(20261124)
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def judged(case: Any) -> None:
        case.call_and_validate(headers={"authorization": f"Bearer {KEY}"}, checks=CHECKS)

    judged()
