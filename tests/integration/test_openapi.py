# SPDX-License-Identifier: Apache-2.0
"""The document that a running gateway serves, and requests made from it: schemathesis finds no 5xx on real parts."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from lateen_serving.gateway import openapi
from stack import manifests
from stack.cluster import Cluster
from stack.local import LocalStack

CHECKS: list[Any] = [not_a_server_error, checks.status_code_conformance, checks.response_schema_conformance]
KIND = "modeldeployments.lateen.dev"
OPERATIONS = [
    (path, method, mode)
    for path, methods in openapi.document()["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    if mode == GenerationMode.POSITIVE or "requestBody" in operation
]


@pytest.fixture(scope="module")
def document(stack: LocalStack, cluster: Cluster, shared_namespace: str, embedder: str) -> dict[str, Any]:
    """What the gateway says of itself, with models that exist and answers that are short."""
    cluster.apply(manifests.model(shared_namespace, "chat", "generate", "tiny-chat"))
    cluster.wait_ready(KIND, shared_namespace, "chat", timeout=180)
    found = schemathesis.openapi.from_url(f"{stack.gateway_url}/openapi.json").raw_schema
    schemas = found["components"]["schemas"]
    chat, near = f"{shared_namespace}.chat", f"{shared_namespace}.{embedder}"
    for name, model in (("ChatRequest", chat), ("CompletionRequest", chat), ("ResponsesRequest", chat)):
        schemas[name]["properties"]["model"] = {"enum": [model]}
    schemas["EmbeddingsRequest"]["properties"]["model"] = {"enum": [near]}
    few = {"type": "integer", "minimum": 1, "maximum": 4}
    schemas["ChatRequest"]["properties"]["max_completion_tokens"] = few
    schemas["ChatRequest"].setdefault("required", []).append("max_completion_tokens")
    schemas["CompletionRequest"]["properties"]["max_tokens"] = few
    schemas["ResponsesRequest"]["properties"]["max_output_tokens"] = few
    schemas["ResponsesRequest"].setdefault("required", []).append("max_output_tokens")
    document: dict[str, Any] = found
    return document


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_a_running_gateway_does_as_it_says(
    path: str, method: str, mode: GenerationMode, document: dict[str, Any], stack: LocalStack
) -> None:
    """Whatever is sent, the reply is one that the document describes, and never a 5xx."""
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=stack.gateway_url)

    @seed(20261124)
    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=loaded[path][method].as_strategy(generation_mode=mode))
    def judged(case: Any) -> None:
        case.call_and_validate(headers={"authorization": f"Bearer {stack.api_key}"}, checks=CHECKS)

    judged()
