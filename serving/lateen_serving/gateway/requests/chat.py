# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/chat/completions`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import names
from lateen_serving.gateway.requests.bounds import LABELS, Label, Metadata, Tokens, TopLogprobs
from lateen_serving.gateway.requests.formats import ResponseFormat, TextFormat
from lateen_serving.gateway.requests.functions import ForcedFunction, ToolChoice, Tools
from lateen_serving.gateway.requests.generation import GenerationBody
from lateen_serving.gateway.requests.messages import Message
from lateen_serving.gateway.requests.responses import PromptReference


class ChatRequest(GenerationBody):
    """`POST /v1/chat/completions`. `max_tokens` is the older name of `max_completion_tokens`, which wins."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["messages"], "properties": {"messages": {"type": "array", "minItems": 1}}},
                {"required": ["prompt"], "properties": {"prompt": {"type": "object"}}},
            ]
        }
    )

    openai_fields: ClassVar[frozenset[str]] = names(
        "audio function_call functions modalities moderation prediction prompt_cache_options prompt_cache_retention"
        " reasoning_effort service_tier store verbosity web_search_options"
    )
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {**LABELS, "modalities": (["text"],)}

    messages: Annotated[list[Message], Field(max_length=2048)] = Field(default=[])
    """The conversation; it may be left out where `prompt` says enough."""

    prompt: PromptReference | None = None
    """A PromptTemplate: its messages come before `messages`; its defaults, stop texts and output contract hold where the
    request says nothing of them. Not OpenAI's here; the same as in responses."""

    include: Annotated[list[Literal["file_search_call.results"]], Field(max_length=8)] = Field(default=[])
    """Adds the texts of the passages to what is told of the prompt's search. Not OpenAI's here."""

    max_completion_tokens: Tokens | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs | None = None
    """Needs `logprobs`."""

    response_format: ResponseFormat = TextFormat(type="text")
    tools: Tools = Field(default=[])
    tool_choice: ToolChoice | None = None
    """Default: `auto` with tools, `none` without."""

    parallel_tool_calls: bool = True
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError(
                "top_logprobs",
                "'top_logprobs' is only allowed when 'logprobs' is true",
                {"param": "top_logprobs"},
            )
        return self

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.messages and self.prompt is None:
            kind = "no_messages" if "messages" in self.model_fields_set else "missing"
            raise PydanticCustomError(kind, "give at least one message, or 'prompt'", {"param": "messages"})
        return self

    @property
    def with_passages(self) -> bool:
        """Whether the texts of the passages are wanted."""
        return bool(self.include)

    @property
    def forced_function(self) -> str | None:
        """The function that must be called."""
        return self.tool_choice.function.name if isinstance(self.tool_choice, ForcedFunction) else None
