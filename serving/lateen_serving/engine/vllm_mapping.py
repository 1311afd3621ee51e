# SPDX-License-Identifier: Apache-2.0
"""Between the engine's protocol and vLLM's words: requests to its parameters, outputs to events, errors to ours.

Pure, and without vLLM: called by `vllm.py`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from lateen_serving.engine.protocol import GenerateRequest, TokenChoice, TokenEvent, TokenLogprob
from lateen_serving.engine.text import AnswerText, Decode
from lateen_serving.errors import InputError, ModelError, Overloaded, ReplicaLost, ServiceError, Unavailable

_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,32}"
"""Between JSON tokens: bounded, because small models otherwise like to continue with spaces for ever."""

_LEAST = -9999.0
"""Stands for a probability of zero (a token that the grammar forbids), whose logarithm JSON can't write."""


class Logprob(Protocol):
    """vLLM's word of one likely token."""

    @property
    def logprob(self) -> float:
        """Natural logarithm of its probability."""
        ...


class Output(Protocol):
    """What is new of an answer, as vLLM says it."""

    @property
    def token_ids(self) -> Sequence[int]:
        """New tokens; the end token is among them."""
        ...

    @property
    def logprobs(self) -> Sequence[Mapping[int, Logprob]] | None:
        """For each of them the likeliest tokens and the token itself, by id; None where the request asks for none."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """Present in the last output only."""
        ...


def sampling(request: GenerateRequest, limit: int) -> dict[str, Any]:
    """Arguments of vLLM's SamplingParams but for grammar and output kind; `limit`: longest answer in tokens.

    Stop texts are not among them: answers are decoded on this side, as all engines do.
    """
    seed = request["seed"]
    return {
        "temperature": request["temperature"],
        "top_p": request["top_p"],
        "top_k": request.get("top_k", 0),
        "min_p": request.get("min_p", 0.0),
        "presence_penalty": request.get("presence_penalty", 0.0),
        "frequency_penalty": request.get("frequency_penalty", 0.0),
        "logit_bias": request.get("logit_bias") or None,
        # A seed of -1 would mean none to vLLM.
        "seed": None if seed is None else seed & (2**63 - 1),
        "max_tokens": limit,
        "logprobs": request.get("logprobs"),
        "detokenize": False,
    }


def grammar(request: GenerateRequest) -> dict[str, str] | None:
    """Arguments of vLLM's StructuredOutputsParams; None: the answer is free. Raises InputError for what is no schema.

    A schema's own `x-guidance` stays: the gateway says there how strictly it is meant.
    """
    wanted = request.get("grammar")
    if wanted is None:
        return None
    if wanted["kind"] == "lark":
        return {"grammar": wanted["source"]}
    schema: dict[str, Any] = (
        {"type": "object"} if wanted["kind"] == "json_object" else _schema(wanted["source"])
    )
    options = {"whitespace_pattern": _WHITESPACE} | dict(schema.get("x-guidance") or {})
    return {"json": json.dumps(schema | {"x-guidance": options})}


def _schema(source: str) -> dict[str, Any]:
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise InputError(f"response_format is not JSON: {error}", param="response_format") from error
    if not isinstance(schema, dict):
        raise InputError("response_format must be a JSON Schema object", param="response_format")
    return schema


class Answer:
    """One answer as it grows: vLLM's outputs in, events out."""

    def __init__(
        self,
        request: GenerateRequest,
        prompt_tokens: int,
        decode: Decode,
        bytes_of: Callable[[int], bytes],
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._text = AnswerText(decode, request["stop"])
        self._bytes = bytes_of
        self._top = request.get("logprobs")
        self._tokens = 0
        self._held: list[TokenLogprob] = []
        """Of tokens whose text is not decided yet."""

    def push(self, output: Output, cached_tokens: int | None) -> TokenEvent | None:
        """What to send, if anything; an event with a finish reason is the last.

        Raises Unavailable or ModelError when vLLM gave the request up.
        """
        finish = _finish(output.finish_reason)
        tokens = list(output.token_ids)
        # vLLM is not told of stop texts, so what stops it is an end token: it counts, but it is no text.
        shown = tokens[:-1] if finish == "stop" else tokens
        text = ""
        for at, token in enumerate(shown):
            self._tokens += 1
            new, stopped = self._text.push(token)
            text += new
            if stopped:
                if not new:
                    self._held.clear()
                return self._event(text, cached_tokens, "stop")
            self._hold(token, output.logprobs, at)
        self._tokens += len(tokens) - len(shown)
        if finish is not None:
            text += self._text.flush()
        return self._event(text, cached_tokens, finish) if text or finish else None

    def _hold(self, token: int, logprobs: Sequence[Mapping[int, Logprob]] | None, at: int) -> None:
        if self._top is None or logprobs is None:
            return
        likely = logprobs[at]
        ranked = sorted(likely.items(), key=lambda item: -item[1].logprob)
        top = [self._choice(other, one) for other, one in ranked[: self._top]]
        self._held.append(TokenLogprob(**self._choice(token, likely[token]), top=top))

    def _choice(self, token: int, one: Logprob) -> TokenChoice:
        raw = self._bytes(token)
        return TokenChoice(
            token=raw.decode(errors="replace"), bytes=list(raw), logprob=max(one.logprob, _LEAST)
        )

    def _event(
        self, text: str, cached_tokens: int | None, finish: Literal["stop", "length"] | None
    ) -> TokenEvent:
        event = TokenEvent(text=text, prompt_tokens=self._prompt_tokens, completion_tokens=self._tokens)
        if cached_tokens is not None:
            event["cached_tokens"] = cached_tokens
        if self._held:
            event["logprobs"], self._held = self._held, []
        if finish is not None:
            event["finish_reason"] = finish
        return event


def _finish(reason: str | None) -> Literal["stop", "length"] | None:
    if reason is None:
        return None
    if reason == "stop":
        return "stop"
    if reason == "length":
        return "length"
    if reason == "abort":
        raise Unavailable("the model's engine has stopped")
    raise ModelError(f"vLLM ended the answer: {reason}")


def translated(error: Exception, request: GenerateRequest) -> ServiceError:
    """Our error for one that vLLM raised; classes are known by their names, which move less than their modules."""
    if isinstance(error, ServiceError):
        return error
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "EngineDeadError" in kinds:
        return ReplicaLost("the model's engine has stopped")
    if "GracefulHTTPError" in kinds:
        return Overloaded("the model's queue is full; try again later")
    if "VLLMClientError" in kinds:
        param = getattr(error, "parameter", None) or ("response_format" if "grammar" in request else None)
        return InputError(str(error.args[0]) if error.args else type(error).__name__, param=param)
    cause = error.__cause__ or error
    return ModelError(f"the model failed on this request ({type(cause).__name__})")
