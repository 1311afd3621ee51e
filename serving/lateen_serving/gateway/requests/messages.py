# SPDX-License-Identifier: Apache-2.0
"""Messages of a conversation, as chat completions have them."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import Content, RequestBody, names, one_of
from lateen_serving.gateway.requests.functions import FunctionName, only_functions

CallId = Annotated[str, Field(min_length=1, max_length=256)]
_ROLES = ("system", "developer", "user", "assistant", "tool")


def _role(value: Any) -> Any:
    if isinstance(value, str) and value not in _ROLES:
        raise PydanticCustomError("unknown_role", "a role is one of {roles}", {"roles": ", ".join(_ROLES)})
    return value


def _json_object(value: str) -> str:
    try:
        is_object = isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise PydanticCustomError("json_object", "the arguments of a call are a JSON object, as text")
    return value


Arguments = Annotated[str, AfterValidator(_json_object)]


class TextMessage(RequestBody):
    """What the system, its developer or the user says."""

    openai_fields: ClassVar[frozenset[str]] = names("name phase")

    role: Annotated[Literal["system", "developer", "user"], BeforeValidator(_role)]
    content: Content


class CalledFunction(RequestBody):
    """The function of a call, and what it was called with."""

    harmless_fields: ClassVar[frozenset[str]] = frozenset({"parsed_arguments"})

    name: FunctionName
    arguments: Arguments


class FunctionCall(RequestBody):
    """A call in an earlier answer."""

    harmless_fields: ClassVar[frozenset[str]] = frozenset({"index"})

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(RequestBody):
    """An earlier answer."""

    openai_fields: ClassVar[frozenset[str]] = names("audio function_call name phase refusal")
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"annotations": ([],), "tool_calls": ([],)}
    harmless_fields: ClassVar[frozenset[str]] = frozenset({"parsed"})

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["content"]}, {"required": ["tool_calls"]}]}
    )

    role: Literal["assistant"]
    content: Content | None = None
    """May be missing beside calls."""

    tool_calls: Annotated[
        list[Annotated[FunctionCall, BeforeValidator(only_functions)]], Field(max_length=128)
    ] = Field(default=[])

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if self.content is None and not self.tool_calls:
            raise PydanticCustomError("no_content", "give 'content' or 'tool_calls'")
        return self


class ToolMessage(RequestBody):
    """What a called function returned."""

    role: Literal["tool"]
    content: Content
    tool_call_id: CallId
    """The call it answers."""


Message = Annotated[
    Annotated[TextMessage, Tag("<text>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(lambda value: one_of(value, "role", ("text", "assistant", "tool"))),
]
