# SPDX-License-Identifier: Apache-2.0
"""What a request must fulfil before it may join a batch: a bad one fails here, alone. Pure.

Called by `generator.py`. Bounds are OpenAI's where OpenAI has the field.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence

from lateen_serving.engine.protocol import ChatMessage, GenerateRequest
from lateen_serving.errors import ContextTooLong, InputError

_ROLE = re.compile(r"[a-z][a-z_]{0,31}")
_MOST_BIASES = 1024
_MOST_LOGPROBS = 20
_MOST_TOOLS = 128


def validate(request: GenerateRequest, vocabulary: int) -> None:
    """Raise InputError, naming the field, for a request that a model of `vocabulary` tokens can't serve."""
    if not request["messages"] and "prompt" not in request:
        raise InputError("messages must hold at least one message", param="messages")
    if request["messages"] and request.get("prompt"):
        raise InputError("messages and prompt can't be continued together; send one of them", param="prompt")
    for message in request["messages"]:
        _check_message(message)
    if request["max_tokens"] is not None and request["max_tokens"] < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    if any(not stop for stop in request["stop"]):
        raise InputError("a stop text must not be empty", param="stop")
    if len(request.get("tools", ())) > _MOST_TOOLS:
        raise InputError(f"tools must be at most {_MOST_TOOLS} functions", param="tools")
    _check_sampling(request)
    _check_biases(request.get("logit_bias", {}), vocabulary)


def _check_message(message: ChatMessage) -> None:
    if not _ROLE.fullmatch(message["role"]):
        raise InputError("a role is a word of lower-case letters, such as user", param="messages")
    for call in message.get("tool_calls", ()):
        try:
            arguments = json.loads(call["arguments"])
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise InputError(
                "the arguments of a tool call must be the text of a JSON object", param="messages"
            )


def _check_sampling(request: GenerateRequest) -> None:
    if not (math.isfinite(request["temperature"]) and request["temperature"] >= 0):
        raise InputError("temperature must be a number of 0 or more", param="temperature")
    if not 0 < request["top_p"] <= 1:
        raise InputError("top_p must be above 0 and at most 1", param="top_p")
    if request.get("top_k", 0) < 0:
        raise InputError("top_k must be at least 1, or 0 for all tokens", param="top_k")
    if not 0 <= request.get("min_p", 0.0) <= 1:
        raise InputError("min_p must be between 0 and 1", param="min_p")
    if not -2 <= request.get("presence_penalty", 0.0) <= 2:
        raise InputError("presence_penalty must be between -2 and 2", param="presence_penalty")
    if not -2 <= request.get("frequency_penalty", 0.0) <= 2:
        raise InputError("frequency_penalty must be between -2 and 2", param="frequency_penalty")
    if not 0 <= request.get("logprobs", 0) <= _MOST_LOGPROBS:
        raise InputError(f"logprobs must be between 0 and {_MOST_LOGPROBS}", param="logprobs")


def _check_biases(biases: Mapping[int, float], vocabulary: int) -> None:
    if len(biases) > _MOST_BIASES:
        raise InputError(f"logit_bias must name at most {_MOST_BIASES} tokens", param="logit_bias")
    for token, bias in biases.items():
        if not 0 <= token < vocabulary:
            raise InputError(
                f"logit_bias names token {token}, but this model's tokens are 0 to {vocabulary - 1}",
                param="logit_bias",
            )
        if not -100 <= bias <= 100:
            raise InputError("the values of logit_bias must be between -100 and 100", param="logit_bias")


def check_room(prompt: Sequence[int], request: GenerateRequest, context: int) -> int:
    """`answer_limit` of a request whose prompt is these tokens."""
    field = "messages" if request["messages"] else "prompt"
    return answer_limit(len(prompt), request["max_tokens"], context, field)


def answer_limit(prompt_tokens: int, max_tokens: int | None, context: int, field: str = "messages") -> int:
    """Longest answer in tokens; raises ContextTooLong, naming `field` when not even one token fits behind it, and
    `max_tokens` when fewer fit than are asked for.
    """
    room = context - prompt_tokens
    if room < 1:
        verb = "is" if field == "prompt" else "are"
        raise ContextTooLong(
            f"the {field} {verb} {prompt_tokens} tokens, but this model reads at most {context}, answer included",
            param=field,
            context={"prompt_tokens": prompt_tokens, "max_tokens": context},
        )
    if max_tokens is not None and max_tokens > room:
        raise ContextTooLong(
            f"this model reads at most {context} tokens, answer included: after the {field}, {prompt_tokens} tokens,"
            f" {room} are left for the answer, and {max_tokens} were asked for; ask for fewer, or name no number",
            param="max_tokens",
            context={"prompt_tokens": prompt_tokens, "max_tokens": context},
        )
    return room if max_tokens is None else max_tokens
