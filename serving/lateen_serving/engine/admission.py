# SPDX-License-Identifier: Apache-2.0
"""What a request must fulfil before it may join a batch: a bad one fails here, alone. Pure.

Called by `generator.py`.
"""

import math
import re

from lateen_serving.engine.protocol import GenerateRequest
from lateen_serving.errors import ContextTooLong, InputError

_ROLE = re.compile(r"[a-z][a-z_]{0,31}")


def validate(request: GenerateRequest) -> None:
    """Raise InputError, naming the field, for a request that can't be served by any model."""
    if not request["messages"] and not request.get("prompt"):
        raise InputError("messages must hold at least one message", param="messages")
    for message in request["messages"]:
        if not _ROLE.fullmatch(message["role"]):
            raise InputError("a role is a word of lower-case letters, such as user", param="messages")
    if not (math.isfinite(request["temperature"]) and request["temperature"] >= 0):
        raise InputError("temperature must be a number of 0 or more", param="temperature")
    if not 0 < request["top_p"] <= 1:
        raise InputError("top_p must be above 0 and at most 1", param="top_p")
    if request["max_tokens"] is not None and request["max_tokens"] < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    if any(not stop for stop in request["stop"]):
        raise InputError("a stop text must not be empty", param="stop")


def answer_limit(prompt_tokens: int, max_tokens: int | None, context: int) -> int:
    """Longest answer in tokens; raises ContextTooLong when not even one token fits behind the prompt."""
    room = context - prompt_tokens
    if room < 1:
        raise ContextTooLong(
            f"the messages are {prompt_tokens} tokens, but this model reads at most {context}, answer included",
            param="messages",
            context={"prompt_tokens": prompt_tokens, "max_tokens": context},
        )
    return room if max_tokens is None else min(room, max_tokens)
