# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a model. Pure; called by `app.py`, and the reason ends up in the ModelDeployment's status."""

from typing import Literal

from lateen_api.model_deployment import EngineType, Task
from lateen_serving.engine.options import Device

EngineName = Literal["transformers", "vllm"]


def choose_engine(
    requested: EngineType, task: Task, device: Device, vllm_installed: bool
) -> tuple[EngineName, str]:
    """`transformers` or `vllm`, and why.

    vLLM runs text generation only: where it is asked for, whether it is installed or not, and by itself on a GPU.
    """
    if task != "generate":
        return "transformers", f"vllm does not run task {task} here"
    if requested != "auto":
        return requested, f"engine.type asks for {requested}"
    if device != "cuda":
        return "transformers", "the replica has no GPU"
    if not vllm_installed:
        return "transformers", "vllm is not installed on the node"
    return "vllm", "the replica has a GPU and vllm is installed"
