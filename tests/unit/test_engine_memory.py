# SPDX-License-Identifier: Apache-2.0
"""Weights that don't fit are told apart from weights that don't load."""

import numpy as np
import pytest
import torch

from lateen_serving.engine import failures
from lateen_serving.engine.loading import _unloadable
from lateen_serving.errors import ModelError, OutOfMemory


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "ReplicaFailed"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "ReplicaFailed"),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
            "ReplicaFailed",
        ),
        (RuntimeError("size mismatch for lm_head.weight"), "ModelUnsupported"),
        (OSError("no file named model.safetensors"), "ModelUnsupported"),
    ],
    ids=["a GPU's", "a CPU's", "a CPU's in other words", "other weights", "no weights"],
)
def test_too_little_memory_is_no_fault_of_the_weights(error: Exception, code: str) -> None:
    """The reason says who has to act: more memory helps, other weights don't."""
    assert _unloadable(error).code == code


def test_torch_says_it_in_words_that_are_known() -> None:
    """What torch itself raises where memory is short is told as such, with the remedy."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)  # beyond any processor's address space
    failure = _unloadable(caught.value)
    assert failure.code == "ReplicaFailed"
    assert "spec.resources" in failure.message


def test_a_processors_own_words_are_understood() -> None:
    """Torch's real error on a CPU, numpy's and Python's are told as too little memory; other failures are not."""
    for allocate in (lambda: torch.empty(2**60), lambda: np.empty(2**58), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        told = failures.told(caught.value, "this request")
        assert (type(told), told.code, told.retry_allowed) == (OutOfMemory, "out_of_memory", True)
    told = failures.told(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "this request"
    )
    assert type(told) is OutOfMemory
    assert "GiB" not in told.message
    assert type(failures.told(RuntimeError("shape mismatch"), "this request")) is ModelError
