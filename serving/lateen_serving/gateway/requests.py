# SPDX-License-Identifier: Apache-2.0
"""Bodies of the requests the gateway understands. Parsed by `body.py`, used by the endpoints.

Accepted without effect, because in OpenAI's API they don't change the answer either: `user`, `safety_identifier` and
`metadata` (labels for the caller's own accounting; `metadata` is echoed by responses), `store: false` (nothing is ever
stored), `service_tier: auto | default` (there is one tier) and `prompt_cache_key` (a hint about speed). A neutral value of
an unsupported field, such as `frequency_penalty: 0`, counts as leaving it out.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import RequestBody, names, text_content, text_list

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Tokens = Annotated[int, Field(ge=1, le=1_048_576)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Stop = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]], BeforeValidator(text_list), Field(max_length=4)
]
Results = Annotated[int, Field(ge=1, le=50)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
_LABELS: Mapping[str, Sequence[object]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
}


class Message(RequestBody):
    """One message of a conversation."""

    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"annotations": ([],), "tool_calls": ([],)}

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(text_content)]


class StreamOptions(RequestBody):
    """Options of a streamed chat completion."""

    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"include_obfuscation": (False,)}

    include_usage: bool = False
    """Adds a last chunk with the usage."""


class ChatRequest(RequestBody):
    """`POST /v1/chat/completions`."""

    openai_fields: ClassVar[frozenset[str]] = names(
        "audio frequency_penalty function_call functions logit_bias logprobs modalities moderation"
        " parallel_tool_calls prediction presence_penalty prompt_cache_options prompt_cache_retention"
        " reasoning_effort response_format service_tier store tool_choice tools top_logprobs verbosity"
        " web_search_options"
    )
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {
        **_LABELS,
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (False,),
        "modalities": (["text"],),
        "response_format": ({"type": "text"},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
    }

    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=2048)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    """Older name of `max_completion_tokens`, which wins."""

    max_completion_tokens: Tokens | None = None
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    seed: Seed | None = None
    stop: Stop = Field(default=[])
    n: Literal[1] = 1
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> "ChatRequest":
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled"
            )
        return self


def _variable_value(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"type", "text"} and value["type"] == "input_text":
        value = value["text"]
    if not isinstance(value, str | int | float | bool):
        raise PydanticCustomError(
            "unsupported_value", "A prompt variable is a string, a number or a boolean."
        )
    return value


class PromptReference(RequestBody):
    """A PromptTemplate and values for its variables."""

    id: Name
    version: Annotated[str, Field(max_length=63)] | None = None
    """Author's label of an older revision; default: the live one."""

    variables: Annotated[
        dict[str, Annotated[Any, BeforeValidator(_variable_value)]], Field(max_length=64)
    ] = Field(default={})


class FileSearchTool(RequestBody):
    """Retrieval from indexes. It is not left to the model: every answer is searched for first."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Name], Field(min_length=1, max_length=8)]
    max_num_results: Results | None = None
    """Passages in total; default: the index's `retrieval.limit`."""

    @model_validator(mode="before")
    @classmethod
    def _only_file_search(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("type", "file_search") != "file_search":
            raise PydanticCustomError("unsupported_value", "The only supported tool is 'file_search'.")
        return document


class InputItem(Message):
    """A message of `input`. `id` and `status` come with an earlier answer that is sent back, and mean nothing."""

    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


def _input_items(value: Any) -> Any:
    """A string is one user message. The record of an earlier search is dropped: its passages belong to that answer."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list):
        return [
            item for item in value if not (isinstance(item, dict) and item.get("type") == "file_search_call")
        ]
    return value


class ResponsesRequest(RequestBody):
    """`POST /v1/responses`."""

    openai_fields: ClassVar[frozenset[str]] = names(
        "access_programs background background_options context_management conversation image max_tool_calls"
        " moderation parallel_tool_calls previous_response_id prompt_cache_options prompt_cache_retention reasoning"
        " service_tier store stream_options text tool_choice top_logprobs truncation"
    )
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {
        **_LABELS,
        "background": (False,),
        "parallel_tool_calls": (True, False),
        "text": ({}, {"format": {"type": "text"}}),
        "tool_choice": ("auto", "required", {"type": "file_search"}),
        "truncation": ("disabled",),
        "stream_options": ({}, {"include_obfuscation": False}),
        "top_logprobs": (0,),
    }

    model: Name
    input: Annotated[list[InputItem], BeforeValidator(_input_items), Field(max_length=2048)] = Field(
        default=[]
    )
    instructions: str | None = None
    prompt: PromptReference | None = None
    tools: Annotated[list[FileSearchTool], Field(max_length=1)] = Field(default=[])
    include: Annotated[list[Literal["file_search_call.results"]], Field(max_length=8)] = Field(default=[])
    stream: bool = False
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_output_tokens: Tokens | None = None
    metadata: Metadata = Field(default={})
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None


def _texts(value: Any) -> Any:
    value = text_list(value)
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise PydanticCustomError(
            "unsupported_value", "Token arrays are not supported: 'input' must be text."
        )
    return value


class EmbeddingsRequest(RequestBody):
    """`POST /v1/embeddings`."""

    model: Name
    input: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(_texts),
        Field(min_length=1, max_length=2048),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Refused unless it is what the model has."""

    user: Annotated[str, Field(max_length=512)] | None = None


class SearchRequest(RequestBody):
    """`POST /v1/vector_stores/{id}/search`."""

    openai_fields: ClassVar[frozenset[str]] = frozenset({"filters", "ranking_options", "rewrite_query"})
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"rewrite_query": (False,)}

    query: Annotated[str, Field(min_length=1, max_length=65536)]
    max_num_results: Results | None = None
    """Default: the index's `retrieval.limit`."""
