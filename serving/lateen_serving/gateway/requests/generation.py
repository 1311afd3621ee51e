# SPDX-License-Identifier: Apache-2.0
"""What chat completions and completions have in common: sampling, choices, streaming."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.requests.bounds import (
    Choices,
    Label,
    LogitBias,
    MinP,
    Name,
    Penalty,
    Seed,
    Stop,
    Temperature,
    Tokens,
    TopK,
    TopP,
)


class StreamOptions(RequestBody):
    """Options of a streamed reply."""

    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"include_obfuscation": (False,)}

    include_usage: bool = False
    """Adds a last chunk with the usage."""


class GenerationBody(RequestBody):
    """Fields of both."""

    model: Name
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    top_k: TopK = 0
    """Only the k likeliest tokens are drawn from; 0: all. Not OpenAI's, but vLLM's and others'."""

    min_p: MinP = 0.0
    """Only tokens at least this share as likely as the likeliest are drawn. Not OpenAI's, but vLLM's and others'."""

    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: LogitBias = Field(default={})
    """Added to the logits of tokens, by token id."""

    seed: Seed | None = None
    """Choice k is drawn with `seed + k`."""

    stop: Stop = Field(default=[])
    n: Choices = 1
    max_tokens: Tokens | None = None
    user: Label | None = None

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "stream_options",
                "The 'stream_options' parameter is only allowed when 'stream' is enabled",
                {"param": "stream_options"},
            )
        return self

    @property
    def with_usage(self) -> bool:
        """Whether the stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage
