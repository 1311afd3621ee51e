# SPDX-License-Identifier: Apache-2.0
"""LlamaIndex's OpenAI client against the gateway, in a Python environment of its own."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.cluster import Cluster
from stack.local import REPOSITORY, LocalStack

MODELS = REPOSITORY / "crds" / "samples" / "quickstart" / "models.yaml"
PACKAGES = ("llama-index-llms-openai-like>=0.5,<1", "openai<3")


@pytest.fixture(scope="module", autouse=True)
def model(cluster: Cluster) -> Iterator[None]:
    """The quickstart's models, Ready."""
    cluster.run("apply", "-f", str(MODELS))
    cluster.wait_ready("modeldeployments.lateen.dev", "default", "smollm2", timeout=240)
    yield
    cluster.run("delete", "-f", str(MODELS))


def test_llama_index_chats_streams_and_completes(stack: LocalStack) -> None:
    """Its client gets the same text whole and in pieces, and uses the older completions too."""
    uv = os.environ["LATEEN_UV"]
    script = Path(__file__).with_name("llama_index_client.py")
    packages = [word for package in PACKAGES for word in ("--with", package)]
    result = subprocess.run(
        [uv, "run", "--quiet", "--isolated", "--no-project", "--python", "3.11", *packages, script],
        env={**os.environ, **stack.environment, "NO_PROXY": "127.0.0.1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert "Paris" in found["chat"]
    assert found["streamed"] == found["chat"]
    assert found["pieces"] > 1
    assert found["completion"].strip()
