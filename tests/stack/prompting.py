# SPDX-License-Identifier: Apache-2.0
"""Prompts as tests use them: through the SDK, as a dry run, and on the command line."""

from typing import Any

import httpx
import openai

from stack import local
from stack.cluster import Completed
from stack.local import LocalStack


def use(sdk: openai.OpenAI, model: str, prompt: dict[str, Any]) -> Any:
    """A response that is made from the prompt alone."""
    return sdk.responses.create(model=model, prompt=prompt, max_output_tokens=8, temperature=0)  # type: ignore[call-overload]  # a plain dict for brevity


def gateway(stack: LocalStack) -> httpx.Client:
    """The gateway without the SDK; to be closed."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    return httpx.Client(base_url=stack.gateway_url, trust_env=False, headers=headers, timeout=30)


def dry_run(stack: LocalStack, prompt: str, **body: Any) -> dict[str, Any]:
    """What the gateway makes of a prompt."""
    with gateway(stack) as http:
        reply = http.post(f"/v1/prompts/{prompt}/render", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def rendered(stack: LocalStack, prompt: str, version: str | None = None) -> str:
    """The text of a prompt's only message, with tea as its topic: a dry run."""
    pin = {"version": version} if version else {}
    return str(dry_run(stack, prompt, variables={"topic": "tea"}, **pin)["messages"][0]["content"])


def lateen(stack: LocalStack, *arguments: str) -> Completed:
    """The command line on this stack; never raises for its exit status."""
    return local.lateen(*arguments, state=stack.state.root, timeout=60)
