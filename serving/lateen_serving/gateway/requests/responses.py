# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/responses`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import Content, RequestBody, names, one_of
from lateen_serving.gateway.requests.bounds import (
    LABELS,
    Label,
    Metadata,
    Name,
    Temperature,
    Tokens,
    TopLogprobs,
    TopP,
)
from lateen_serving.gateway.requests.filters import Retrieving
from lateen_serving.gateway.requests.formats import TextConfig
from lateen_serving.gateway.requests.functions import Function, FunctionName, Mode, choice_kind
from lateen_serving.gateway.requests.messages import Arguments, CallId

ToolKind = Literal["file_search", "function"]
_TOOLS = ("function", "file_search")


class VariableText(BaseModel):
    """The longer way to write a text variable; only published."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["input_text"]
    text: str


def _variable_value(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"type", "text"} and value["type"] == "input_text":
        value = value["text"]
    is_media = isinstance(value, dict) and value.get("type") in ("input_image", "input_file")
    if is_media or not isinstance(value, str | int | float | bool | list | dict):
        raise PydanticCustomError(
            "unsupported_value", "A prompt variable is a string, a number, a boolean, a list or an object."
        )
    return value


_Variable = Annotated[
    Any,
    BeforeValidator(
        _variable_value,
        json_schema_input_type=str | int | float | bool | list[Any] | dict[str, Any] | VariableText,
    ),
]


PromptVersion = Annotated[str, Field(max_length=63)]
PromptVariables = Annotated[dict[str, _Variable], Field(max_length=64)]


class PromptReference(RequestBody):
    """A PromptTemplate and values for its variables."""

    id: Name
    version: PromptVersion | None = None
    """Author's label of an older revision; default: the live one."""

    variables: PromptVariables = Field(default={})


class FileSearchTool(Retrieving):
    """Retrieval from indexes. It is not left to the model: every answer is searched for first."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Name], Field(min_length=1, max_length=8)]


class ResponseFunctionTool(Function):
    """A function, as responses have it: in one object."""

    type: Literal["function"]


def _known_tool(value: Any) -> Any:
    kind = value.get("type", "function") if isinstance(value, Mapping) else "function"
    if isinstance(kind, str) and kind not in _TOOLS:
        raise PydanticCustomError(
            "unsupported_value",
            "Unsupported tool '{kind}': the types are 'file_search' and 'function'.",
            {"kind": kind},
        )
    return value


Tool = Annotated[
    Annotated[ResponseFunctionTool, Tag("<function>")] | Annotated[FileSearchTool, Tag("<file_search>")],
    Discriminator(lambda value: one_of(value, "type", _TOOLS)),
    BeforeValidator(_known_tool),
]


class NamedTool(RequestBody):
    """`tool_choice` that names what to use. `file_search` runs anyway, so it asks for nothing."""

    type: ToolKind
    name: FunctionName | None = None

    @model_validator(mode="after")
    def _functions_have_names(self) -> Self:
        if (self.type == "function") != (self.name is not None):
            raise PydanticCustomError("named_tool", "'name' is the name of a function, and of nothing else")
        return self


def _known_choice(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, Mapping) else None
    is_known = kind in _TOOLS if isinstance(value, Mapping) else value in ("none", "auto", "required")
    if isinstance(value, str | Mapping) and not is_known:
        raise PydanticCustomError(
            "unsupported_value",
            "A tool choice is 'none', 'auto', 'required', a function to call or 'file_search'.",
        )
    return value


ToolChoice = Annotated[
    Annotated[Mode, Tag("<mode>")] | Annotated[NamedTool, Tag("<named>")],
    Discriminator(choice_kind),
    BeforeValidator(_known_choice),
]


class InputMessage(RequestBody):
    """A message of `input`. `id` and `status` come with an earlier answer that is sent back, and mean nothing."""

    openai_fields: ClassVar[frozenset[str]] = names("phase")
    harmless_fields: ClassVar[frozenset[str]] = frozenset({"id", "status"})

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class FunctionCallItem(RequestBody):
    """A call in an earlier answer."""

    openai_fields: ClassVar[frozenset[str]] = names("caller namespace")
    harmless_fields: ClassVar[frozenset[str]] = frozenset({"id", "status", "parsed_arguments"})

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: Arguments


class FunctionOutputItem(RequestBody):
    """What a called function returned."""

    openai_fields: ClassVar[frozenset[str]] = names("caller name namespace")
    harmless_fields: ClassVar[frozenset[str]] = frozenset({"id", "status"})

    type: Literal["function_call_output"]
    call_id: CallId
    output: Content


class FileSearchItem(BaseModel):
    """The record of an earlier search. It is dropped: its passages belong to that answer."""

    type: Literal["file_search_call"]


_ITEMS = ("message", "function_call", "function_call_output", "file_search_call")


def _known_item(value: Any) -> Any:
    kind = value.get("type", "message") if isinstance(value, Mapping) else "message"
    if isinstance(kind, str) and kind not in _ITEMS:
        raise PydanticCustomError(
            "unsupported_value", "Unsupported input item '{kind}'. Remove it.", {"kind": kind}
        )
    return value


InputItem = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionOutputItem, Tag("<function_call_output>")]
    | Annotated[FileSearchItem, Tag("<file_search_call>")],
    Discriminator(lambda value: one_of(value, "type", _ITEMS)),
    BeforeValidator(_known_item),
]
_Items = Annotated[list[InputItem], Field(max_length=2048)]


def _input_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


Include = Literal["file_search_call.results", "message.output_text.logprobs"]


class ResponsesRequest(RequestBody):
    """`POST /v1/responses`."""

    openai_fields: ClassVar[frozenset[str]] = names(
        "access_programs background background_options context_management conversation image max_tool_calls"
        " moderation previous_response_id prompt_cache_options prompt_cache_retention reasoning"
        " service_tier store stream_options truncation"
    )
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {
        **LABELS,
        "background": (False,),
        "truncation": ("disabled",),
        "stream_options": ({}, {"include_obfuscation": False}),
    }

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["input"]}, {"required": ["prompt"]}]}
    )

    model: Name
    input: Annotated[_Items, BeforeValidator(_input_items, json_schema_input_type=str | _Items)] = Field(
        default=[]
    )
    """A user's message, or a conversation; it may be left out where `prompt` says enough."""

    instructions: str | None = None
    prompt: PromptReference | None = None
    tools: Annotated[list[Tool], Field(max_length=129)] = Field(default=[])
    tool_choice: ToolChoice | None = None
    """Default: `auto`."""

    parallel_tool_calls: bool = True
    text: TextConfig = Field(default=TextConfig())
    include: Annotated[list[Include], Field(max_length=8)] = Field(default=[])
    top_logprobs: TopLogprobs | None = None
    """Asks for log probabilities by itself, as `include: [message.output_text.logprobs]` does."""

    stream: bool = False
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_output_tokens: Tokens | None = None
    metadata: Metadata = Field(default={})
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None

    @model_validator(mode="after")
    def _one_search(self) -> Self:
        if sum(isinstance(tool, FileSearchTool) for tool in self.tools) > 1:
            raise PydanticCustomError(
                "several_searches", "'tools' has more than one file_search; give it once", {"param": "tools"}
            )
        return self

    @property
    def search(self) -> FileSearchTool | None:
        """The retrieval that is asked for."""
        return next((tool for tool in self.tools if isinstance(tool, FileSearchTool)), None)

    @property
    def functions(self) -> list[ResponseFunctionTool]:
        """The functions that may be called."""
        return [tool for tool in self.tools if isinstance(tool, ResponseFunctionTool)]

    @property
    def forced_function(self) -> str | None:
        """The function that must be called."""
        return self.tool_choice.name if isinstance(self.tool_choice, NamedTool) else None

    @property
    def logprobs(self) -> int | None:
        """How many of the likeliest tokens are told; None: no log probabilities."""
        is_included = "message.output_text.logprobs" in self.include
        return (self.top_logprobs or 0) if is_included or self.top_logprobs else None
