# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a model."""

import pytest

from lateen_api.model_deployment import EngineType, Task
from lateen_serving.engine.choosing import choose_engine
from lateen_serving.engine.options import Device


@pytest.mark.parametrize(
    ("requested", "task", "device", "installed", "engine", "word"),
    [
        ("auto", "generate", "cpu", True, "transformers", "no GPU"),
        ("auto", "generate", "cuda", False, "transformers", "not installed"),
        ("auto", "generate", "cuda", True, "vllm", "GPU"),
        ("vllm", "generate", "cpu", True, "vllm", "asks for vllm"),
        ("vllm", "generate", "cuda", False, "vllm", "asks for vllm"),
        ("transformers", "generate", "cuda", True, "transformers", "asks for transformers"),
        ("auto", "embed", "cuda", True, "transformers", "embed"),
        ("vllm", "rerank", "cuda", True, "transformers", "rerank"),
    ],
)
def test_the_engine_fits_task_and_hardware(
    requested: EngineType, task: Task, device: Device, installed: bool, engine: str, word: str
) -> None:
    """The engine vLLM generates where it is asked for, or by itself on a GPU; the reason says what decided."""
    chosen, reason = choose_engine(requested, task, device, installed)
    assert chosen == engine
    assert word in reason
