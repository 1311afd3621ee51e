# SPDX-License-Identifier: Apache-2.0
"""A model on vLLM behind Ray Serve and the gateway, on a stack whose environment has vLLM beside Lateen.

On a CPU its replica takes one to five minutes to start. The environment is told in `docs/engines.md`.
"""

import importlib.util
import json
from typing import Any

import openai
import pytest

from stack import asking, manifests
from stack.cluster import Cluster

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(900),
]
KIND = "modeldeployments.lateen.dev"
ENGINE = {"type": "vllm", "dtype": "bfloat16", "maxModelLen": 1024, "kvCacheMemory": "256Mi"}
SEA: dict[str, Any] = {
    "type": "object",
    "properties": {"deep": {"type": "boolean"}},
    "required": ["deep"],
    "additionalProperties": False,
}


def test_a_model_on_vllm_answers_through_the_gateway(
    cluster: Cluster, namespace: str, sdk: openai.OpenAI
) -> None:
    """The status says which engine serves; answers, streams, formats and log probabilities come through the gateway."""
    cluster.apply(
        manifests.model(
            namespace,
            "sea",
            "generate",
            "smollm2-135m-instruct",
            engine=ENGINE,
            resources={"cpu": "1", "memory": "1Gi"},
        )
    )
    status = cluster.wait_ready(KIND, namespace, "sea", timeout=480)["status"]
    assert status["engine"] == "vllm"
    model = status["modelId"]
    whole = asking.say(sdk, model, "Tell me about the sea.", tokens=24)
    assert asking.stream(sdk, model, "Tell me about the sea.", tokens=24)[:20] == whole[:20]
    messages: Any = [{"role": "user", "content": "Is the sea deep?"}]
    shaped: Any = {"type": "json_schema", "json_schema": {"name": "sea", "schema": SEA, "strict": True}}
    reply = sdk.chat.completions.create(
        model=model, messages=messages, response_format=shaped, logprobs=True, top_logprobs=2, temperature=0
    )
    (choice,) = reply.choices
    assert list(json.loads(choice.message.content or "")) == ["deep"]
    assert choice.logprobs is not None
    told = choice.logprobs.content or []
    assert bytes(byte for token in told for byte in token.bytes or ()).decode() == choice.message.content
    with pytest.raises(openai.BadRequestError) as caught:
        asking.say(sdk, model, "sea " * 1100)
    assert caught.value.code == "context_length_exceeded"
