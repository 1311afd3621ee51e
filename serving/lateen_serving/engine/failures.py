# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in the torch thread, as requests are told of it.

Used by `scheduler.py`, `batching.py` and `loading.py`.
"""

import torch

from lateen_serving.errors import ModelError, OutOfMemory, ServiceError

_SHORT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")
"""Torch has an error of its own for a GPU's memory only; a processor's is told from others by its words."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SHORT_OF_MEMORY)


def told(error: Exception, what: str) -> ServiceError:
    """What a request is told; `what` names it, such as "this request". Never the text of a foreign error."""
    if isinstance(error, ServiceError):
        return error
    if out_of_memory(error):
        return OutOfMemory(
            f"the model has too little free memory for {what}; send less at once, or try again"
        )
    return ModelError(f"the model failed on {what} ({type(error).__name__})")
